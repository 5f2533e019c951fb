/** Makes the story of a failing seed short: leaves out kinds of faults and weather, and events, while it still fails. */
import { faultKinds } from './faults.ts';
import { clear } from './weather.ts';
import type { Outcome } from './world.ts';

type RunSeed = (
  seed: number,
  options: { events: number; without?: ReadonlySet<string>; onTrace?: (line: string) => void },
) => Promise<Outcome>;

const storyLines = 60;

/** The story as text: what can be left out, and the last lines before the violation. */
export async function shrink(seed: number, events: number, run: RunSeed): Promise<string> {
  const without = new Set<string>();
  const fails = async (with_: { events: number; without: ReadonlySet<string> }) =>
    (await run(seed, with_)).violations.some((violation) => !violation.startsWith('[replay]'));
  for (const kind of [...faultKinds.map(({ name }) => name), ...Object.keys(clear)]) {
    const tried = new Set([...without, kind]);
    if (await fails({ events, without: tried })) without.add(kind);
  }
  let least = events;
  for (let fewer = Math.floor(events / 2); fewer >= 50; fewer = Math.floor(fewer / 2)) {
    if (!(await fails({ events: fewer, without }))) break;
    least = fewer;
  }
  const story: string[] = [];
  const outcome = await run(seed, { events: least, without, onTrace: (line) => story.push(line) });
  const told = story.filter((line) => !line.includes('   '));
  return [
    `seed ${seed}, ${outcome.events} events, without ${[...without].join(', ') || 'nothing'}:`,
    ...told.slice(-storyLines).map((line) => `  ${line}`),
    `replay: npm run simulate -- --seed ${seed} --events ${events} --verbose`,
  ].join('\n');
}
