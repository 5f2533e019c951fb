/**
 * The agent for a release: one file that runs from wherever it lies, with a mark in the place of its version, which is
 * known only when everything of the release is. `node agent-daemon/bundle/release.ts` writes it to standard output.
 */
import { join } from 'node:path';
import { bundleText } from './bundle.ts';

/** Replaced by whoever makes the release. */
const versionMark = '@causeway-agent-version@';

const root = join(import.meta.dirname, '../..');
process.stdout.write(
  await bundleText(root, {
    // Of the file itself: what else belongs to the release lies beside it.
    banner: '"use strict";const agentFileUrl = require("node:url").pathToFileURL(__filename).href;',
    define: { 'import.meta.url': 'agentFileUrl', CAUSEWAY_AGENT_VERSION: JSON.stringify(versionMark) },
  }),
);
