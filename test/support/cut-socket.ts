/**
 * Cuts unix sockets of a running process from outside, as if the other end had gone: what `ss -K` does for TCP. The
 * kernel lends another process's descriptors (pidfd_getfd), which are asked for their own path, because a connection from
 * another network namespace stands in no table here, and shut down; no process is asked.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runToEnd } from './process.ts';
import { tmpDir } from './tmp.ts';

/** `cut PID PART`: prints how many connections it cut. Listeners stay. */
const source = `
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
int main(int argc, char **argv) {
  int cut = 0, pidfd = syscall(434 /* pidfd_open */, atoi(argv[1]), 0);
  for (int n = 0; pidfd >= 0 && n < 4096; n++) {
    struct sockaddr_un name;
    socklen_t size = sizeof name, one = sizeof(int);
    int listens = 0, fd = syscall(438 /* pidfd_getfd */, pidfd, n, 0);
    if (fd < 0) continue;
    memset(&name, 0, sizeof name);
    if (!getsockname(fd, (struct sockaddr *)&name, &size) && name.sun_family == AF_UNIX && strstr(name.sun_path, argv[2]) &&
        !getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &one) && !listens && !shutdown(fd, SHUT_RDWR))
      cut++;
    close(fd);
  }
  printf("%d\\n", cut);
  return pidfd < 0;
}
`;

/** Shuts down the process's connections on unix sockets whose path contains `pathPart`. Returns how many there were. */
export async function cutUnixSockets(pid: number, pathPart: string): Promise<number> {
  using dir = tmpDir('cut');
  writeFileSync(join(dir.path, 'cut.c'), source);
  await runToEnd('musl-gcc', ['-o', 'cut', 'cut.c'], { cwd: dir.path });
  return Number(await runToEnd(join(dir.path, 'cut'), [String(pid), pathPart]));
}
