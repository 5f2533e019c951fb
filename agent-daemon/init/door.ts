/** The real door: unix sockets in a directory that the container sees. No decision is taken here. */
import { closeSync, constants, openSync } from 'node:fs';
import { chmod, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { InitDoor } from './link-options.ts';

const openPath = 0o10000000; // O_PATH: the directory is entered, never listed
const directoryMode = 0o311;
const backlog = 16;

export const unixDoor: InitDoor = {
  async listen(dir, name, onConnection) {
    await chmod(dir, directoryMode);
    // Through a descriptor, because the path of a unix socket is limited to 107 bytes.
    const directory = openSync(dir, openPath | constants.O_DIRECTORY);
    const path = `/proc/self/fd/${directory}/${name}`;
    const server = createServer(onConnection);
    const close = (): void => {
      server.close();
      closeSync(directory);
    };
    try {
      await rm(path, { force: true });
      server.listen({ path, backlog, readableAll: true, writableAll: true });
      await once(server, 'listening');
    } catch (error) {
      close();
      throw error;
    }
    return close;
  },
  remove: (dir, name) => rm(`${dir}/${name}`, { force: true }),
};
