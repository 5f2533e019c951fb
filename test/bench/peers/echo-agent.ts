/** A process that sends back every message of a WebSocket: the far end of the bare relay. */
import { dial } from './bare.ts';

const socket = await dial(process.argv[2] ?? '');
socket.on('message', (data: Buffer) => socket.send(data));
console.log(JSON.stringify({ msg: 'ready' }));
