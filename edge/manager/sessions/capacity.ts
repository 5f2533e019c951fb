/** Refuses at once what no agent of the group could ever run. What merely does not fit now waits. */
import { Refusal } from '../../../schema/errors.ts';
import type { Slots } from '../../../schema/protocol/messages.ts';
import type { UserCtx } from '../../http/context.ts';
import { ledgerObject } from '../../platform/objects.ts';
import type { GroupShape } from '../scheduler/rpc.ts';
import { describeAmount, holds } from '../scheduler/slots.ts';

/** Shapes of groups are kept in the isolate this long. */
const keepMs = 5_000;
const shapes = new WeakMap<object, Map<number, { atMs: number; shape: GroupShape }>>();

/** What the agents of a group have in all, present or not. */
export async function shapeOf(ctx: UserCtx, groupNumber: number): Promise<GroupShape> {
  const nowMs = ctx.clock.bootMs();
  const known = shapes.get(ctx.env) ?? new Map<number, { atMs: number; shape: GroupShape }>();
  shapes.set(ctx.env, known);
  const kept = known.get(groupNumber);
  if (kept && nowMs - kept.atMs < keepMs) return kept.shape;
  const shape = await ledgerObject(ctx.env, groupNumber).shape();
  known.set(groupNumber, { atMs: nowMs, shape });
  return shape;
}

/**
 * @throws Refusal `session_too_large` when the group has agents, present or not, and none of them has this much in all
 */
export async function checkFits(ctx: UserCtx, group: { number: number; name: string }, slots: Slots): Promise<void> {
  const { totals } = await shapeOf(ctx, group.number);
  if (totals.length === 0 || totals.some((total) => holds(total, slots))) return;
  const lacking = Object.entries(slots).flatMap(([name, amount]) => {
    const most = Math.max(0, ...totals.map((total) => total[name] ?? 0));
    return most < amount ? [`${describeAmount(name, amount)}, the most is ${describeAmount(name, most)}`] : [];
  });
  const detail = lacking.length > 0 ? lacking.join('; ') : 'no single agent has all of it together';
  throw new Refusal('session_too_large', `Asked for in group ${group.name}: ${detail}.`);
}
