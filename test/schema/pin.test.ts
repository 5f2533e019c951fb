import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { joinLine } from '../../schema/join-line.ts';
import { parsePins, PinList, toCurlPin, toPin } from '../../schema/pin.ts';

const hash = createHash('sha256').update('a key').digest();
const pin = `sha256:${hash.toString('hex')}`;

it('writes a hash as a pin, and the pin as curl takes it', () => {
  expect(toPin(hash)).toBe(pin);
  expect(toCurlPin(pin)).toBe(`sha256//${hash.toString('base64')}`);
});

it('takes one to four pins, in any case, and nothing else', () => {
  expect(parsePins(pin.toUpperCase())).toEqual([pin]);
  expect(parsePins(`${pin},${pin}`)).toEqual([pin, pin]);
  expect(PinList.parse(pin.toUpperCase())).toBe(pin);
  for (const wrong of ['', pin.slice(1), `${pin}0`, `${pin},`, `${pin} `, 'sha256:', Array(5).fill(pin).join(',')]) {
    expect(parsePins(wrong), wrong).toBeUndefined();
    expect(PinList.safeParse(wrong).success, wrong).toBe(false);
  }
});

it('makes a line that pins the key where there is one, and asks authorities where there is none', () => {
  const url = 'https://10.0.0.7:8787';
  expect(joinLine({ url, token: 'cwj_x', pin })).toBe(
    `curl -fsSL -k --pinnedpubkey '${toCurlPin(pin)}' ${url}/install.sh | sh -s -- --url ${url} --pin ${pin} cwj_x`,
  );
  expect(joinLine({ url, token: 'cwj_x' })).toBe(`curl -fsSL ${url}/install.sh | sh -s -- --url ${url} cwj_x`);
});
