/**
 * What kernels can be started: of each image that looks as if it had a kernel of Jupyter, one in each resource preset that
 * an agent could hold. What an image really has is known when it runs; until then its name is all there is.
 */
import type { JupyterKernelspec, JupyterKernelspecs } from '../../../schema/api/jupyter.ts';
import type { ResourcePreset } from '../../../schema/api/preset.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { Slots } from '../../../schema/protocol/messages.ts';
import type { UserCtx } from '../../http/context.ts';
import { ledgerObject } from '../../platform/objects.ts';
import { requireGroup } from '../accounts/catalogue.ts';
import { requireProject } from '../accounts/service.ts';
import { listPresets } from '../presets/service.ts';
import { holds } from '../scheduler/slots.ts';
import { shapeOf } from '../sessions/capacity.ts';
import { toSlots } from '../sessions/resources.ts';

/** A kernel that can be started, under the name that clients know it by. */
export interface Offer {
  name: string;
  displayName: string;
  /** As kernelspecs and notebooks name it. */
  language: string;
  image: string;
  resources: ResourcePreset['resources'];
}

/** What the name of an image tells of its kernel; the first that fits. */
const languages: readonly { pattern: RegExp; language: string; title: string }[] = [
  { pattern: /octave/, language: 'octave', title: 'Octave' },
  { pattern: /julia/, language: 'julia', title: 'Julia' },
  { pattern: /(^|[/_-])(r|rstudio|r-notebook|r-base|irkernel)$/, language: 'R', title: 'R' },
  { pattern: /python|notebook|jupyter|conda|torch|tensorflow|jax|scipy/, language: 'python', title: 'Python' },
];
/** What is asked for where nobody asks for anything: a notebook says no more, either. */
export const defaultLanguage = 'python';
const gibi = 1024 ** 3;

/** All offers to the actor's project, the default one first. @throws Refusal `project_required`, `group_not_found` */
export async function listOffers(ctx: UserCtx): Promise<Offer[]> {
  if (ctx.actor.projects.length === 0 && ctx.actor.projectId === undefined) return [];
  const project = await requireProject(ctx, 'project:read');
  const group = await requireGroup(ctx, project, undefined);
  const [agents, presets, { totals }] = await Promise.all([
    ledgerObject(ctx.env, group.number).images(),
    listPresets(ctx),
    shapeOf(ctx, group.number),
  ]);
  const byContent = Map.groupBy(
    agents.flatMap(({ images }) => images),
    ({ digest }) => digest,
  );
  const images = Array.from(byContent.values(), (same) => [...new Set(same.flatMap(({ names }) => names))]);
  return toOffers(images, presets, totals);
}

/** Pure. `named`: the names of each image; `totals`: what each agent has in all, without any nothing is known to be too large. */
export function toOffers(
  named: readonly (readonly string[])[],
  presets: readonly ResourcePreset[],
  totals: readonly Slots[],
): Offer[] {
  const fitting = presets.filter(({ resources }) => {
    const slots = toSlots(resources);
    return totals.length === 0 || totals.some((total) => holds(total, slots));
  });
  const images = named.flatMap((names) => bestOf(names.flatMap((name) => kernelOf(name) ?? [])) ?? []).sort(byImage);
  const titles = Map.groupBy(images, ({ title }) => title);
  // Where none fits the smallest stays: the refusal of a start says what is lacking.
  const offered = fitting.length > 0 ? fitting : presets.slice(0, 1);
  const taken = new Set<string>();
  const offers: Offer[] = [];
  for (const { image, language, title } of images)
    for (const { name: preset, resources } of offered) {
      const name = `${slugOf(image)}.${preset}`;
      // Two images of one name but for signs: the first has it.
      if (taken.has(name)) continue;
      taken.add(name);
      const isOnly = titles.get(title)?.length === 1;
      const displayName = `${title} - ${amountsOf(resources)}${isOnly ? '' : ` (${image})`}`;
      offers.push({ name, displayName, language, image, resources });
    }
  return offers;
}

interface ImageKernel {
  image: string;
  language: string;
  title: string;
  hasVersion: boolean;
}

/** Undefined when the name of the image tells of no kernel. */
function kernelOf(image: string): ImageKernel | undefined {
  if (image.includes('@') || image.includes('<none>')) return undefined;
  const colon = image.lastIndexOf(':');
  const hasTag = colon > image.lastIndexOf('/');
  const repository = hasTag ? image.slice(0, colon) : image;
  const tag = hasTag ? image.slice(colon + 1) : '';
  const found = languages.find(({ pattern }) => pattern.test(repository));
  if (!found) return undefined;
  const version = /^v?(\d{1,2}(?:\.\d{1,4})*)(?:$|-)/.exec(tag)?.[1];
  const { language, title } = found;
  return version === undefined
    ? { image, language, title, hasVersion: false }
    : { image, language, title: `${title} ${version}`, hasVersion: true };
}

/** Of several names of one image that which tells most: a version, else `latest`, else the first. */
function bestOf(kernels: readonly ImageKernel[]): ImageKernel | undefined {
  const rank = ({ image, hasVersion }: ImageKernel) => (hasVersion ? 0 : image.endsWith(':latest') ? 1 : 2);
  return kernels.toSorted((a, b) => rank(a) - rank(b) || (a.image < b.image ? -1 : 1))[0];
}

/** Python before others, then by name. */
function byImage(a: ImageKernel, b: ImageKernel): number {
  const rank = ({ language }: ImageKernel) => (language === defaultLanguage ? 0 : 1);
  return rank(a) - rank(b) || (a.image < b.image ? -1 : 1);
}

function slugOf(image: string): string {
  return image.replace(/:latest$/, '').replaceAll(/[^A-Za-z0-9._-]+/g, '-');
}

/** `1 CPU - 2 GB - 1 GPU` */
function amountsOf(resources: ResourcePreset['resources']): string {
  const { cpu = 0, mem = 0, ...others } = toSlots(resources);
  const devices = Object.entries(others).map(([name, amount]) =>
    name === 'cuda.device' ? `${amount} GPU` : `${amount} ${name}`,
  );
  return [`${cpu / 1000} CPU`, `${Math.round((mem / gibi) * 10) / 10} GB`, ...devices].join(' - ');
}

/** As clients read it. */
export function toKernelspecs(offers: readonly Offer[]): JupyterKernelspecs {
  return {
    default: offers[0]?.name ?? '',
    kernelspecs: Object.fromEntries(offers.map((offer) => [offer.name, toKernelspec(offer)])),
  };
}

function toKernelspec({ name, displayName, language, image, resources }: Offer): JupyterKernelspec {
  const spec = {
    argv: [],
    env: {},
    display_name: displayName,
    language,
    interrupt_mode: 'signal' as const,
    metadata: { causeway: { image, resources } },
  };
  return { name, spec, resources: {} };
}

/**
 * The offer of a name. A name of a kernelspec that every Jupyter has (`python3`), or of a language, means the first of that
 * language; no name the first of all. @throws Refusal `jupyter_kernelspec_missing`
 */
export function requireOffer(offers: readonly Offer[], name: string | null | undefined): Offer {
  const wanted = name ?? '';
  const language = (wanted === '' ? defaultLanguage : wanted).toLowerCase().replace(/\d+$/, '');
  const offer =
    offers.find((each) => each.name === wanted) ??
    offers.find((each) => each.language.toLowerCase() === language) ??
    (wanted === '' ? offers[0] : undefined);
  if (offer) return offer;
  throw new Refusal(
    'jupyter_kernelspec_missing',
    offers.length === 0
      ? 'No connected agent of your project has an image with a kernel of Jupyter.'
      : 'There is no kernel of this name; choose another one of the list.',
  );
}
