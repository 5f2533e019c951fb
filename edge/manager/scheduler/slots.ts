/** Quantities of resources in integer base units (milli-cpu, bytes, ...), and the canonical text of a request. Pure. */
import type { Slots } from '../../../schema/protocol/messages.ts';

/** Canonical text of what a session asks for: sorted, without zeros. Equal requests have equal shapes. */
export function toShape(slots: Slots): string {
  return Object.keys(slots)
    .filter((name) => slots[name] !== 0)
    .sort()
    .map((name) => `${name}=${slots[name]}`)
    .join(',');
}

/** The slots of a shape. */
export function parseShape(shape: string): Slots {
  const slots: Slots = {};
  if (shape === '') return slots;
  for (const part of shape.split(',')) {
    const [name, amount] = part.split('=');
    slots[name ?? ''] = Number(amount);
  }
  return slots;
}

/** Each slot of `offered`, at most what was approved. What was not approved does not exist. */
export function clampSlots(offered: Slots, approved: Slots): Slots {
  const clamped: Slots = {};
  for (const [name, most] of Object.entries(approved)) {
    const amount = Math.min(most, offered[name] ?? 0);
    if (amount > 0) clamped[name] = amount;
  }
  return clamped;
}

/** Adds `times` times `slots` to `sum`. */
export function addSlots(sum: Slots, slots: Slots, times: number): void {
  for (const [name, amount] of Object.entries(slots)) sum[name] = (sum[name] ?? 0) + amount * times;
}

/** True when `capacity` holds `slots`. */
export function holds(capacity: Slots, slots: Slots): boolean {
  return Object.entries(slots).every(([name, amount]) => (capacity[name] ?? 0) >= amount);
}

/** A quantity for people: cores, binary bytes, or a plain number. */
export function describeAmount(name: string, amount: number): string {
  if (name === 'cpu') return `${Math.round(amount) / 1000} cpu`;
  if (name !== 'mem') return `${amount} ${name}`;
  for (const [unit, bytes] of [
    ['GiB', 1024 ** 3],
    ['MiB', 1024 ** 2],
    ['KiB', 1024],
  ] as const)
    if (amount >= bytes) return `${Math.round((amount / bytes) * 10) / 10} ${unit} mem`;
  return `${amount} B mem`;
}
