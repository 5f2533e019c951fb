/** Links to terminals as people pass them on: an address, and behind its `#`, which no server is sent, the token and pins. */
import { TerminalId } from '../../schema/api/terminal-parts.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import { type Context, requirePins } from '../config.ts';

const path = '/v1/shared-terminals/';

/** The link to a terminal, for whoever has it. */
export function toLink({ url, pin }: Pick<Context, 'url' | 'pin'>, terminalId: string, token: string): string {
  return `${url}${path}${terminalId}#${token}${pin === undefined ? '' : `&pin=${pin}`}`;
}

/** Where a link leads, and as whom. @throws CliFailure when it is none */
export function parseLink(text: string): { context: Context; terminalId: string } {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const at = url?.pathname.indexOf(path) ?? -1;
  const terminalId = TerminalId.safeParse(url?.pathname.slice(at + path.length)).data;
  const [token = '', ...more] = (url?.hash.slice(1) ?? '').split('&');
  const pin = more.find((each) => each.startsWith('pin='))?.slice('pin='.length);
  if (!url || at < 0 || !/^https?:$/.test(url.protocol) || terminalId === undefined || !token.startsWith('cwt_'))
    throw new CliFailure('that is not a link to a terminal', {
      status: exitStatus.usage,
      hint: "--link 'https://HOST/v1/shared-terminals/trm_...#cwt_...'",
    });
  const pins = requirePins(pin, 'the pin of the link');
  const context = {
    url: url.origin + url.pathname.slice(0, at),
    token,
    ...(pins === undefined ? {} : { pin: pins }),
  };
  return { context, terminalId };
}
