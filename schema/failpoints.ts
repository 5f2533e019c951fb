/**
 * Every durable step of create, run, output, stop and enrol, on both sides. A test sets
 * `CAUSEWAY_FAILPOINT=<name>:<before|after|unknown>` and the process dies there once (before the step, right after it,
 * or after it with its answer lost). The daily tier visits ten of them, the full tier all.
 */
export const failpoints = {
  edge: [
    'admission.accept', // spec, quota, name and idempotency key in one transaction of the admission object
    'admission.handover', // the batch to the ledger
    'admission.readModel', // the upsert batch to D1
    'admission.finish', // the stored answer of another creating POST
    'admission.release', // quota and name given back at the end of a session
    'ledger.admit', // the session's row in the ledger
    'ledger.place', // reservation, generation and the create intent
    'ledger.sendIntent', // the intent handed to a control hub
    'ledger.intentAcked', // the agent's acknowledgement stored
    'ledger.attach', // epoch and join counter of an agent
    'ledger.event', // an agent's event committed, before it is acknowledged
    'ledger.terminate', // the stop intent
    'ledger.fence', // an agent declared out of reach
    'ledger.outbox', // a batch of the outbox delivered to its sink
    'agents.enrol', // the agent's row, the join token spent
    'agents.revoke', // the agent's revocation
    'accounts.bootstrap', // the first administrator
    'accounts.intend', // a change of rights announced to the Access object
    'accounts.rights', // the change in D1, with its audit record
    'accounts.tell', // the change told to the Access object
    'audit.assign', // entries given their place in the chain
    'audit.seal', // the same in D1
  ],
  agent: [
    'identity.key', // the host's key made and stored
    'identity.enrolled', // the agent id stored
    'identity.counter', // join counter and attempt id fsynced before a dial
    'journal.intent', // an intent fsynced before it is acknowledged
    'runtime.pull', // the image pulled
    'runtime.network', // the session's network
    'runtime.home', // the session's home directory
    'runtime.initKey', // the session key of causeway-init stored
    'runtime.create', // docker create
    'runtime.start', // docker start
    'runtime.spawn', // the main process spawned through causeway-init
    'spool.append', // output written to the spool, before it is acknowledged to the init
    'spool.exit', // the exit of a process recorded
    'journal.event', // an event recorded before it is sent
    'runtime.stop', // the stop asked of the init
    'runtime.remove', // docker rm
    'runtime.cleanup', // network and directories removed
  ],
  /** Of output on its way to object storage; visited by the tests of that. */
  handover: [
    'handover.plan', // the end of the next chunk noted
    'handover.put', // the chunk is there, before that is noted
  ],
  /** Of containers that are started in advance; visited by the simulation. */
  warm: [
    'warm.claim', // the placement says which container is the session's
    'warm.home', // its home has the session's name
    'warm.rename', // it has the session's name
  ],
  /** Of an agent that becomes another version; visited by the test of upgrades. */
  upgrade: [
    'upgrade.unpack', // the new version unpacked beside the one that runs
    'upgrade.trial', // the trial written down
    'upgrade.switch', // the new version is the one that is started
    'upgrade.proven', // the new version has proven itself
  ],
} as const;

export type EdgeFailpoint = (typeof failpoints.edge)[number];
export type AgentFailpoint = (
  | typeof failpoints.agent
  | typeof failpoints.handover
  | typeof failpoints.warm
  | typeof failpoints.upgrade
)[number];
export const failpointPhases = ['before', 'after', 'unknown'] as const;
export type FailpointPhase = (typeof failpointPhases)[number];

/** Parses `<name>:<phase>`; undefined when it names nothing known. */
export function parseFailpoint(text: string | undefined): { name: string; phase: FailpointPhase } | undefined {
  const [name, phase] = (text ?? '').split(':');
  const known = Object.values(failpoints).some((group) => group.some((each) => each === name));
  const matched = failpointPhases.find((each) => each === phase);
  return known && name !== undefined && matched !== undefined ? { name, phase: matched } : undefined;
}
