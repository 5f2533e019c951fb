/** The few pages that a person sees without a console: what this is, and what errors mean. Static text, nothing runs in it. */
import { type ErrorCode, errors } from '../../schema/errors.ts';
import { remedies } from '../../schema/error-remedies.ts';

/** Nothing is loaded, framed, sent or run. */
const headers = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy': "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'x-frame-options': 'DENY',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
};

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const escaped = (text: string) => text.replaceAll(/[&<>"]/g, (each) => escapes[each] ?? each);

function page(title: string, body: string): Response {
  const head = `<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>${escaped(title)}</title>\n`;
  return new Response(`${head}<h1>${escaped(title)}</h1>\n${body}\n</html>\n`, { headers });
}

const paragraph = (text: string) => `<p>${escaped(text)}</p>`;
const link = (path: string) => `<a href="${escaped(path)}">${escaped(path)}</a>`;

/** Says that a control plane runs here, and nothing about it that a stranger should not know. */
export function landingPage(): Response {
  return page(
    'Causeway',
    `${paragraph('A control plane of Causeway runs here. Sign in with: causeway login')}\n` +
      `<ul><li>${link('/openapi.json')}: the API<li>${link('/errors')}: what errors mean<li>${link('/readyz')}: is it ready</ul>`,
  );
}

/** Every error that a caller can see. */
export function errorsPage(): Response {
  const rows = Object.entries(errors).map(
    ([code, { status, title }]) => `<li>${link(`/errors/${code}`)} (${status}): ${escaped(title)}`,
  );
  return page('Errors', `<ul>${rows.join('\n')}</ul>`);
}

/** Where the `type` of a problem points. */
export function errorPage(code: ErrorCode): Response {
  const { status, title } = errors[code];
  return page(code, `${paragraph(`HTTP ${status}. ${title}.`)}\n${paragraph(`What to do: ${remedies[code]}`)}`);
}
