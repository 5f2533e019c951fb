/** How Jupyter's clients speak over HTTP, where it differs from our API. */
import { JupyterError } from '../../../schema/api/jupyter.ts';
import type { Surface } from '../../http/slice.ts';

const below = /^(?:\/v1\/sessions\/[^/]+)?\/jupyter(?:\/|$)/;

export const jupyterSurface: Surface = {
  scheme: 'token',
  tokenParameter: 'token',
  // JupyterLab leaves the type of its bodies to the browser.
  bodyTypes: ['text/plain'],
  owns: (path) => below.test(path),
  refuse: ({ title, code, detail, errors }) => ({
    message:
      detail ?? (errors ? `${title}: ${errors.map(({ path, message }) => `${path} ${message}`).join('; ')}` : title),
    reason: title,
    code,
  }),
  refusal: JupyterError,
};
