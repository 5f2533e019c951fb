/** A dialler of the CLI whose far end is the real stream engine, served by a test and cut at chosen moments. */
import { CliFailure } from '../../cli/exit.ts';
import type { Dialler } from '../../cli/tunnel/dial.ts';
import { Endpoint } from '../../schema/protocol/endpoint.ts';
import { type Stream, StreamOver } from '../../schema/protocol/stream.ts';
import type { StreamOpen } from '../../schema/protocol/streams.ts';

/** Serves one stream of one operation; `cut` drops the connection, `visit` counts them. */
export type ServeStream<Op extends StreamOpen['op']> = (
  stream: Stream,
  open: Extract<StreamOpen, { op: Op }>,
  cut: () => void,
  visit: number,
) => Promise<void>;

/**
 * A dialler whose far end runs `serve` on each stream; `cut` drops the connection. `placement`: the generation of the session
 * at a dial, or `waits` for its next; another one that is asked for is refused as the edge does it.
 */
export function farEnd<Op extends StreamOpen['op']>(
  serve: ServeStream<Op>,
  placement?: (dial: number) => number | 'waits',
): Dialler {
  let visits = 0;
  let dials = 0;
  return async (_signal, wanted) => {
    const generation = placement?.(dials++);
    if (generation === 'waits') throw new CliFailure('it waits', { code: 'session_not_running' });
    if (wanted !== undefined && wanted !== generation)
      throw new CliFailure('it was placed anew', { code: 'session_generation_stale' });
    const visit = visits++;
    const ends: { near?: Endpoint; far?: Endpoint } = {};
    const ports = (other: () => Endpoint | undefined) => ({
      send: (message: Uint8Array, sent: () => void) => {
        setImmediate(() => {
          other()?.receive(message);
          sent();
        });
      },
      soon: (task: () => void) => void setImmediate(task),
      nowMs: () => performance.now(),
    });
    const { promise: closed, resolve } = Promise.withResolvers<StreamOver>();
    const cut = () => {
      resolve(new StreamOver({ code: 'tunnel_closed' }));
      ends.near?.close('tunnel_closed');
      ends.far?.close('tunnel_closed');
    };
    ends.near = new Endpoint(
      ports(() => ends.far),
      { maxWindowBytes: 262_144 },
    );
    ends.far = new Endpoint(
      ports(() => ends.near),
      {
        maxWindowBytes: 262_144,
        accept: (stream, open) =>
          void serve(stream, open as Extract<StreamOpen, { op: Op }>, cut, visit).catch(() => undefined),
      },
    );
    const told = generation === undefined ? {} : { generation };
    return { ...told, open: (request) => ends.near!.open(request), closed, close: cut };
  };
}
