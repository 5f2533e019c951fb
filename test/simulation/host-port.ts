/** A host with an agent, as the world moves it. `host/` implements it with the agent's production code. */
import type { ContainerLife } from '../support/invariant-rules.ts';

export interface HostSize {
  cpus: number;
  memoryBytes: number;
}

export interface WorldHost {
  readonly name: string;
  /** As D1 has it; empty before it has joined. */
  readonly agentId: string;
  readonly isRunning: boolean;
  /** No copy of its disk could go on as this agent: its hardware says which machine it is. */
  readonly hasHardwareId: boolean;
  /** At any time. */
  readonly lostPower: boolean;
  /** Starts the agent's process. */
  start(): void;
  /** The same, with a join token. */
  join(token: string): void;
  /** kill -9 of the agent: containers live on. */
  crash(): void;
  /** Its agent ends in order, and the other of two releases begins after `ms`: the next, or this one again. */
  upgrade(ms: number): void;
  /** Everything on the host is gone but what its disk had synced; torn tails. */
  powerLoss(): void;
  /** The same while its journal is synced for the next time, if that is soon. */
  powerLossAtSync(withinMs: number): void;
  /** kill -9 of the engine; it comes back after `ms`. Containers live on. */
  killEngine(ms: number): void;
  /** The engine answers nothing for `ms`. */
  hangEngine(ms: number): void;
  /** The disk takes nothing more for `ms`. */
  fillDisk(ms: number): void;
  /** Its wall clock jumps. */
  jumpClock(ms: number): void;
  /** Containers that were ever made here. */
  lives(): readonly ContainerLife[];
  /** Containers that its agent may start in advance. */
  readonly mostInAdvance: number;
  /** What the operator gave it, by slot, and what the containers that run have of that. */
  readonly approved: Readonly<Record<string, number>>;
  used(): Record<string, number>;
  running(): { sessionId: string; generation: number; name: string }[];
  /** Another machine with an image of this one's disk, which nobody has started yet. */
  copy(name: string): WorldHost;
  /** It is gone for good, with all that runs on it. */
  scrap(): void;
  /** Sessions whose containers run although all that ran in them has ended. */
  hollow(): string[];
  /** What is left: containers and networks by session. */
  leftovers(): {
    /** Containers that were started in advance, and no session has. */
    inAdvance: number;
    containers: { sessionId: string | undefined; name: string; running: boolean }[];
    networks: { sessionId: string | undefined; name: string }[];
  };
  /** What of an upload no loss of power takes any more. */
  uploaded(sessionId: string, uploadId: string): Buffer;
  /** Who it takes itself for. */
  identity(): string | undefined;
  /** The agent's own list. */
  inventory(): { sessionId: string; generation: number; state: string }[];
}
