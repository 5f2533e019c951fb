// Set where a release is made (bundle/release.ts); absent in a checkout.
declare const CAUSEWAY_AGENT_VERSION: string | undefined;

/** Version of this agent, as it says in hello and enrolment. */
export const agentVersion = typeof CAUSEWAY_AGENT_VERSION === 'string' ? CAUSEWAY_AGENT_VERSION : '0.1.0';
