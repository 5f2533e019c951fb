/**
 * Named rare cases. A run that never reaches one of them proves nothing about it, so the simulator counts them over all
 * seeds and fails when one is missing.
 */
export const rareCases = [
  // edge
  'an object was evicted and woke again',
  'an object died within a step',
  'an object died within a commit',
  'a commit failed and its object went on',
  'the edge died with everything in it',
  'the answer of an object was lost',
  'a request to an object was lost',
  'D1 failed before it wrote',
  'D1 wrote and its answer was lost',
  'Redis failed',
  'Redis was flushed',
  'an alarm rang again after a death',
  'a deploy replaced one object after the other',
  'an edge said that it stops, and stopped',
  'an object was cut off and its sockets went on',
  'an object was slow and later calls overtook earlier ones',
  // rights
  'a token was revoked',
  'a user was switched off',
  'a stream was open while its token was taken out',
  'a reader was told that its token is out',
  // enrolment
  'an agent waited for its approval',
  'a join token was refused to a second host',
  // admission
  'a create was repeated with its key',
  'a create was refused for its name',
  'a session waited for quota',
  'a session went on when quota was free',
  'a session was refused over the hard limit',
  'a session was cancelled while it waited',
  'a stop followed a session that was on its way',
  // ledger
  'a session waited for room',
  'a session was placed a second time',
  'a restartable session was placed on another host',
  'an order was taken back before it was sent',
  'an order was sent again',
  'an agent was lost',
  'an agent came back',
  'an inventory named a container to destroy',
  'an inventory lacked a placement',
  'a session was UNREACHABLE and RUNNING again',
  'a session was stopped while UNREACHABLE',
  'a start failed and was tried again',
  'a stale epoch was refused',
  'an agent was revoked with sessions on it',
  'an agent was drained',
  'a change came late for an agent that was revoked',
  'a copied machine found out by itself that it is one',
  'a copied machine spoke as the original',
  'two machines of one identity were suspended',
  // agent
  'an agent process was killed',
  'an agent process was killed within a step',
  'an agent process was killed right behind a write',
  'an agent was upgraded with sessions on it',
  'an agent went back to the release before',
  'a host lost its power',
  'a journal was torn',
  'a container was adopted',
  'a run lease ran out in the container',
  'a session took a container that was started in advance',
  'a session took a kernel that was started in advance',
  'an agent was killed while a session took a container',
  'dockerd hung',
  'dockerd was killed',
  'a host was cut off while its dockerd hung',
  'a disk was full',
  'a disk failed',
  'a clock jumped',
  // network
  'a connection was half open',
  'a way forgot a connection of an agent',
  'a partition was one way',
  'a message was lost with its connection',
  'a message was duplicated',
  'a message was reordered',
  'a herd of agents dialled at once',
  // bytes
  'output was read over a cut',
  'output had a gap that was announced',
  'a slow reader was waited for',
  'a part of an upload was sent again',
  'output was handed over',
  'output was handed over again after a death',
  'a client claimed to have read what it had not',
  // code
  'a run was read over a cut',
  'a run was asked for again before it was answered',
  'a run ended with its kernel',
  'a run was interrupted',
  'a run was given the line that it asked for',
  'a run of several steps did them all',
  'the output of a run had a gap',
  // kernels of Jupyter
  'a run of a kernel of Jupyter ended though messages were missing',
  'a run was refused behind an error and asked for again',
  'a kernel was followed over a cut',
  'a message to a kernel was sent again',
  'a message to a kernel was kept and its sender not told',
  'the log of a kernel had a gap',
  'messages of a kernel were lost',
  'a kernel ended by itself and was started anew',
  'a kernel was started anew by somebody',
  'somebody saw a kernel only from some time on',
  // programs that are fed
  'a program was fed over a cut',
  // terminals
  'a terminal was looked at over a cut',
  'a screen was drawn for somebody who had nothing',
  'what was typed was sent again',
  'what was typed had arrived and its typist not told',
  'several people typed at one terminal',
  'a link that only looks was refused to type',
] as const;
export type RareCase = (typeof rareCases)[number];

export class Sometimes {
  readonly counts = new Map<RareCase, number>();

  reached(rare: RareCase): void {
    this.counts.set(rare, (this.counts.get(rare) ?? 0) + 1);
  }
}
