/** Values that many tests of the agent need: a kernel's specification and image facts that are valid as they are. */
import { newId, newSessionId } from '../../schema/ids.ts';
import { defaultOutputPolicy } from '../../schema/api/session-parts.ts';
import type { KernelSpec } from '../../schema/protocol/intents.ts';
import type { ImageFacts } from '../../agent-daemon/runtime/runtime.ts';

const zeros = new Uint8Array(10);

export const sessionId = newSessionId(1_800_000_000_000, zeros, 1, 1);
export const agentId = `${newId('agent', 1_800_000_000_000, zeros)}_1`;
export const projectId = newId('project', 1_800_000_000_000, zeros);
export const ownerId = newId('user', 1_800_000_000_000, zeros);

export function kernelSpec(changes: Partial<KernelSpec> = {}): KernelSpec {
  return {
    kernel: 'main1',
    projectId,
    ownerId,
    name: 'test',
    type: 'batch',
    image: 'causeway-test/busybox:latest',
    env: {},
    stdin: false,
    tty: false,
    slots: { cpu: 500, mem: 64 * 1024 * 1024 },
    output: defaultOutputPolicy,
    ...changes,
  };
}

export function imageFacts(changes: Partial<ImageFacts> = {}): ImageFacts {
  return {
    id: `sha256:${'0'.repeat(64)}`,
    names: ['causeway-test/busybox:latest'],
    digests: [],
    env: ['PATH=/usr/bin:/bin'],
    user: '',
    entrypoint: [],
    cmd: ['sh'],
    workingDir: '',
    labels: {},
    sizeBytes: 2_000_000,
    createdAtMs: 0,
    architecture: 'amd64',
    ...changes,
  };
}
