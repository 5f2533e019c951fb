/**
 * Whether this process is about to stop, so that answers without an end come to one. Only on one machine: there one workerd
 * has one isolate of the Worker. In production the platform ends streams itself.
 */
export const machine = { isDraining: false };
