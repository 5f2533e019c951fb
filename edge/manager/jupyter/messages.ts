/** Messages of Jupyter that the gateway reads a little of, or says itself. Pure. */
import { bridgeChannel } from '../../../schema/protocol/channels.ts';
import { FramingError, type Message, textOf } from '../../../schema/protocol/jupyter-framing.ts';

/** What is looked at of a message that passes. */
export interface Heading {
  type: string;
  id: string;
  /** Of whoever said it: clients take what another session says for old. */
  session: string;
  /** It is for a thread of the kernel beside its shell. */
  isInSubshell: boolean;
}

const encoder = new TextEncoder();
/** Headers are a few hundred bytes; what is larger is passed on unread. */
const maxHeaderBytes = 16 * 1024;

function objectOf(bytes: Uint8Array | undefined): Record<string, unknown> {
  if (bytes === undefined || bytes.byteLength > maxHeaderBytes) return {};
  try {
    const value: unknown = JSON.parse(textOf(bytes));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

const text = (value: unknown) => (typeof value === 'string' ? value : '');

function headingIn(part: Uint8Array | undefined): Heading {
  const header = objectOf(part);
  return {
    type: text(header['msg_type']),
    id: text(header['msg_id']),
    session: text(header['session']),
    isInSubshell: text(header['subshell_id']) !== '',
  };
}

export function headingOf({ parts }: Message): Heading {
  return headingIn(parts[0]);
}

/** Of the message that it answers or belongs to. */
export function parentOf({ parts }: Message): Heading {
  return headingIn(parts[1]);
}

/** `execution_state` of a message of the type `status`. */
export function stateIn({ parts }: Message): string {
  return text(objectOf(parts[3])['execution_state']);
}

/** Who says what the gateway says, and when. */
export interface Speaker {
  /** The kernel's own session, once it is known. */
  session: string;
  /** 32 hex digits. */
  id: string;
  nowMs: number;
}

/** A message of the gateway. `parent`: header of the request that it belongs to, as it came. */
export function spoken(
  channel: 'iopub' | 'shell',
  type: string,
  content: object,
  speaker: Speaker,
  parent?: Uint8Array,
): Message {
  const header = {
    msg_id: speaker.id,
    msg_type: type,
    session: speaker.session,
    username: 'causeway',
    date: new Date(speaker.nowMs).toISOString(),
    version: '5.3',
  };
  const parts = [header, {}, {}, content].map((part) => encoder.encode(JSON.stringify(part)));
  if (parent) parts[1] = new Uint8Array(parent);
  return { channel, parts };
}

/** The same message, marked as one of before. */
export function asReplay({ channel, parts }: Message): Message {
  const metadata = { ...objectOf(parts[2]), causeway: { replay: true } };
  return { channel, parts: parts.map((part, at) => (at === 2 ? encoder.encode(JSON.stringify(metadata)) : part)) };
}

/** The content of a message of the bridge. @throws FramingError */
export function noteOf({ channel, parts }: Message): unknown {
  if (channel !== bridgeChannel) throw new FramingError('it is not of the bridge');
  return objectOf(parts[3]);
}
