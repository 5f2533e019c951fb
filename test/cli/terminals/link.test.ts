/** Links to terminals as people pass them on. */
import { expect, it } from 'vitest';
import { parseLink, toLink } from '../../../cli/terminals/link.ts';

const terminalId = `trm_${'0'.repeat(26)}`;
const token = `cwt_${'a'.repeat(51)}`;
const pin = `sha256:${'0f'.repeat(32)}`;

it('lead where they were made, with the pin of the server, and tell no server their token', () => {
  for (const url of ['http://127.0.0.1:8787', 'https://causeway.example:8443', 'https://example.org/below'])
    for (const pinned of url.startsWith('https') ? [undefined, pin] : [undefined]) {
      const context = { url, token, ...(pinned === undefined ? {} : { pin: pinned }) };
      const link = toLink(context, terminalId, token);
      expect(parseLink(link)).toEqual({ context, terminalId });
      expect(link.split('#')[0]).not.toContain('cwt_');
    }
});

it('are refused where they are none, with one that works', () => {
  for (const wrong of [
    '',
    'desk',
    `https://h/v1/shared-terminals/${terminalId}`,
    `https://h/v1/shared-terminals/${terminalId}?token=${token}`,
    `https://h/v1/shared-terminals/${terminalId}#cwj_x`,
    `https://h/v1/shared-terminals/none#${token}`,
    `https://h/v1/terminals/${terminalId}#${token}`,
    `file:///v1/shared-terminals/${terminalId}#${token}`,
  ])
    expect(() => parseLink(wrong), wrong).toThrow('not a link to a terminal');
  expect(() => parseLink(`https://h/v1/shared-terminals/${terminalId}#${token}&pin=none`)).toThrow('is not a pin');
});
