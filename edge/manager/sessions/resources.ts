/** What a session asks for, from what people write to integer base units. Pure. */
import type { ResourceRequest } from '../../../schema/api/session.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { Slots } from '../../../schema/protocol/messages.ts';

const defaults = { cpu: 1000, mem: 1024 ** 3 } as const;
/** Zero would mean "no limit" to a container engine. */
const least = { cpu: 10, mem: 8 * 1024 ** 2 } as const;
const units: Readonly<Record<string, number>> = { '': 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 };

function refuse(name: string, message: string): never {
  throw new Refusal('request_body_invalid', undefined, { issues: [{ path: `resources.${name}`, message }] });
}

/** Milli-cpu, bytes, and integers for every other slot. Zeros are left out. @throws Refusal `request_body_invalid` */
export function toSlots(request: ResourceRequest = {}): Slots {
  const slots: Slots = { ...defaults };
  for (const [name, amount] of Object.entries(request)) {
    const value = name === 'cpu' ? toMilli(amount) : name === 'mem' ? toBytes(amount) : toCount(name, amount);
    if (value > 0) slots[name] = value;
  }
  return slots;
}

function toMilli(amount: number | string): number {
  if (typeof amount === 'string' && !/^[0-9.]+$/.test(amount)) refuse('cpu', 'must be a number of cores: 0.5 or 4');
  const milli = Number(amount) * 1000;
  // 0.1 + 0.2 is not 0.3: what is a whole number of milli-cpu but for rounding counts as one.
  const rounded = Math.abs(milli - Math.round(milli)) < 1e-6 ? Math.round(milli) : Math.ceil(milli);
  return checked('cpu', rounded, least.cpu, 'at least 0.01');
}

function toBytes(amount: number | string): number {
  const [, digits, unit] = /^([0-9.]+)([kmgt]?)i?b?$/i.exec(String(amount)) ?? [];
  if (digits === undefined) refuse('mem', 'must be a size: 512m, 4g, or a number of bytes');
  return checked('mem', Math.ceil(Number(digits) * (units[(unit ?? '').toLowerCase()] ?? 1)), least.mem, 'at least 8m');
}

function toCount(name: string, amount: number | string): number {
  const count = Number(amount);
  if (!Number.isInteger(count)) refuse(name, 'must be a whole number: 1');
  return checked(name, count, 0, 'not negative');
}

function checked(name: string, value: number, minimum: number, text: string): number {
  if (!Number.isFinite(value) || value > Number.MAX_SAFE_INTEGER) refuse(name, 'is too large');
  if (value < minimum) refuse(name, `must be ${text}`);
  return value;
}
