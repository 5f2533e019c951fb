/** Stands in the bundle for what dockerode brings along and the agent never uses: SSH to an engine, sessions of BuildKit. */
export const absent = true;
