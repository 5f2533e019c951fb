/** A stream of the shared engine as handlers see it: with an AbortSignal for its end, and refusals for its errors. */
import { isErrorCode, Refusal } from '../../schema/errors.ts';
import type { Stream, StreamEnd } from '../../schema/protocol/stream.ts';
import { StreamOver } from '../../schema/protocol/stream.ts';
import type { AgentStream } from '../dispatch.ts';

function toRefusal({ code, detail }: StreamEnd): Refusal {
  return new Refusal(isErrorCode(code) ? code : 'tunnel_closed', detail ?? `The stream is over: ${code}.`);
}

/** Rejections of a stream that is over, as refusals. */
async function refusing<Result>(work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    throw error instanceof StreamOver ? toRefusal(error) : error;
  }
}

export function toAgentStream(stream: Stream): AgentStream {
  const closed = new AbortController();
  void stream.whenOver.then((end) => closed.abort(end.code === 'ended' ? 'ended' : toRefusal(end)));
  return {
    closed: closed.signal,
    opened(info) {
      if (stream.over) throw toRefusal(stream.over);
      stream.opened(info);
    },
    seek: (channel, offset) => stream.seek(channel, offset),
    write: (channel, bytes) =>
      stream.over ? Promise.reject(toRefusal(stream.over)) : refusing(stream.write(channel, bytes)),
    lend: (channel, bytes) =>
      stream.over ? Promise.reject(toRefusal(stream.over)) : refusing(stream.lend(channel, bytes)),
    writeControl: (message) => refusing(stream.writeControl(message)),
    read: () => stream.read(toRefusal),
    end: (channel) => stream.end(channel),
    reset: (code, detail) => stream.reset(code, detail),
  };
}
