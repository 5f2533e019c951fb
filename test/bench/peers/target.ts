/** The far end of TCP jobs: the first line says what a connection does, `echo` or `read <bytes>`. Prints its port. */
import { type AddressInfo, type Socket, createServer } from 'node:net';

const block = Buffer.alloc(1024 * 1024, 'causeway');

const server = createServer({ noDelay: true }, (socket) => {
  socket.on('error', () => {});
  socket.once('data', (first: Buffer) => {
    const end = first.indexOf('\n');
    const [job, size] = first.toString('latin1', 0, end).split(' ');
    if (job === 'read') send(socket, Number(size));
    else {
      socket.write(first.subarray(end + 1));
      socket.pipe(socket);
    }
  });
});

function send(socket: Socket, left: number): void {
  for (let missing = left; ;) {
    if (missing === 0) return void socket.end();
    const size = Math.min(missing, block.length);
    missing -= size;
    if (!socket.write(block.subarray(0, size))) {
      socket.once('drain', () => send(socket, missing));
      return;
    }
  }
}

server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ msg: 'ready', port: (server.address() as AddressInfo).port }));
});
