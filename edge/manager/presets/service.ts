/** Resource presets: those that an administrator set, over the default ones. */
import { defaultPresets, type ResourcePreset } from '../../../schema/api/preset.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { UserCtx } from '../../http/context.ts';
import { database } from '../../platform/database.ts';
import { audited, systemChain } from '../audit/record.ts';
import { toSlots } from '../sessions/resources.ts';
import { deletePresetRow, listPresetRows, maxPresets, putPresetRow } from './store.ts';

/** All of them, the default ones first. */
export async function listPresets(ctx: UserCtx): Promise<ResourcePreset[]> {
  const rows = await listPresetRows(database(ctx.env));
  const set = new Map(rows.map(({ name, resources }) => [name, resources]));
  const kept = defaultPresets.map(({ name, resources }) => {
    const own = set.get(name);
    set.delete(name);
    return { name, resources: own === undefined ? resources : own };
  });
  return [...kept, ...Array.from(set, ([name, resources]) => ({ name, resources }))].filter(
    (preset): preset is ResourcePreset => preset.resources !== null,
  );
}

/** Sets one. @throws Refusal `request_body_invalid` for amounts that no session may ask for */
export async function putPreset(ctx: UserCtx, preset: ResourcePreset): Promise<ResourcePreset> {
  toSlots(preset.resources);
  const known = await listPresets(ctx);
  if (known.length >= maxPresets && !known.some(({ name }) => name === preset.name))
    throw new Refusal('preset_limit', `There are ${maxPresets} already.`);
  const { name, resources } = preset;
  const details = { resources: JSON.stringify(resources) };
  await putPresetRow(
    audited(ctx, { chain: systemChain, action: 'preset.put', objectId: name, details }),
    name,
    resources,
  );
  return preset;
}

/** Takes one away. @throws Refusal `preset_not_found` */
export async function deletePreset(ctx: UserCtx, name: string): Promise<void> {
  if (!(await listPresets(ctx)).some((each) => each.name === name)) throw new Refusal('preset_not_found');
  const write = audited(ctx, { chain: systemChain, action: 'preset.delete', objectId: name });
  if (defaultPresets.some((each) => each.name === name)) await putPresetRow(write, name, null);
  else await deletePresetRow(database(ctx.env), write, name);
}
