/** Bringing everything up again on a machine where it ran before. */
import { join } from 'node:path';
import { startDockerd } from '../../support/dockerd.ts';
import { freePort } from '../../support/free-port.ts';
import { importBusybox, busyboxImage } from '../../support/images.ts';
import { runToEnd } from '../../support/process.ts';
import { tmpDir } from '../../support/tmp.ts';
import type { Row } from '../row.ts';

const causeway = join(import.meta.dirname, '../../../causeway');

export const rows: Row[] = [
  {
    name: 'start-warm',
    title: '`npm start` again on a warm machine, until ready',
    peer: 'none',
    unit: 's',
    goal: { kind: 'value', atMost: 10 },
    setup: async () => {
      const engine = await startDockerd();
      await importBusybox(engine.docker);
      const home = tmpDir('home');
      const env = {
        CAUSEWAY_HOME: home.path,
        CAUSEWAY_PYTHON_IMAGE: busyboxImage,
        DOCKER_HOST: engine.dockerHost,
        PORT: String(await freePort()),
      };
      const run = async (...args: string[]): Promise<string> => runToEnd(causeway, args, { env });
      await run('up', '--detach');
      return {
        round: async () => {
          await run('down');
          const startedMs = performance.now();
          await run('up', '--detach');
          return { subject: (performance.now() - startedMs) / 1000 };
        },
        teardown: async () => {
          await run('down');
          await engine.stop();
          home.remove();
        },
      };
    },
  },
];
