/**
 * What only a machine knows, where one workerd has one isolate of the Worker: whether this process is about to stop, so that
 * answers without an end come to one, and which hubs opened a socket in its time. In production the platform ends streams and
 * sockets itself.
 */
export const machine = { isDraining: false, controlHubs: new Set<string>(), dataHubs: new Set<string>() };
