/**
 * A host behind NAT, made of network namespaces: `inside` is the host's own namespace, `router` masquerades for it and
 * holds every rule, and only a veth end with one address is in the namespace of the test. The router drops and counts
 * whatever wants to come in, which is the proof that nothing of ours needs to; it can also lose packets at random or
 * silence one direction, below TCP, where a proxy can not.
 *
 *     inside --10.x.y.128/30--> router --10.x.y.0/30--> this namespace
 */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type StartOptions, type Started, runToEnd, start } from './process.ts';
import { deleteNamespace, namespacesFile, sweepAbandoned } from './sweep.ts';
import { tmpDir } from './tmp.ts';

/** `out` is what the host behind NAT sends, `in` what it receives. */
export type PacketDirection = 'out' | 'in' | 'both';

export interface NatHost {
  /** Namespace of the host, for `startDockerd({ netns })` and the like. */
  readonly netns: string;
  /** The host's own address, not reachable from here. */
  readonly address: string;
  /** The NAT's address: what a server here sees as the client's. */
  readonly natAddress: string;
  /** This namespace's address on the link: what the host dials. Servers must listen on it (or on 0.0.0.0). */
  readonly outsideAddress: string;
  /** Packets so far that tried to open a connection to the host or its NAT from outside; each was dropped. */
  inboundAttempts(): Promise<number>;
  /** Drops every packet of a direction, of open connections too, without a word to anybody. */
  silence(direction: PacketDirection): Promise<void>;
  /** Loses packets at random, `probability` from 0 to 1. */
  lose(direction: PacketDirection, probability: number): Promise<void>;
  /** Ends `silence` and `lose`. */
  heal(): Promise<void>;
  /** Starts a program on the host. */
  start(command: string, args: readonly string[], options?: StartOptions): Started;
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Makes a host behind NAT. */
export async function createNatHost(): Promise<NatHost> {
  await sweepAbandoned();
  const id = randomBytes(3).toString('hex');
  const dir = tmpDir('net', { swept: true });
  const inside = `cwt-${id}-in`;
  const router = `cwt-${id}-rt`;
  writeFileSync(join(dir.path, namespacesFile), JSON.stringify([inside, router]));
  const stop = async (): Promise<void> => {
    await deleteNamespace(inside);
    await deleteNamespace(router);
    dir.remove();
  };
  try {
    const addresses = await wire(id, inside, router);
    await addRules(router);
    return hostOf(inside, router, addresses, stop);
  } catch (error) {
    await stop();
    throw error;
  }
}

interface Addresses {
  outsideAddress: string;
  natAddress: string;
  address: string;
}

async function wire(id: string, inside: string, router: string): Promise<Addresses> {
  const subnet = await freeSubnet();
  const addresses = { outsideAddress: `${subnet}.1`, natAddress: `${subnet}.2`, address: `${subnet}.130` };
  for (const name of [inside, router]) {
    await ip('netns', 'add', name);
    await ip('-n', name, 'link', 'set', 'lo', 'up');
    await runToEnd('sysctl', ['-qw', 'net.ipv6.conf.all.disable_ipv6=1'], { netns: name });
  }
  await runToEnd('sysctl', ['-qw', 'net.ipv4.ip_forward=1'], { netns: router });
  await ip('link', 'add', `cwt${id}`, 'type', 'veth', 'peer', 'name', 'out', 'netns', router);
  await ip('-n', router, 'link', 'add', 'in', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', inside);
  await ip('addr', 'add', `${subnet}.1/30`, 'dev', `cwt${id}`);
  await ip('-n', router, 'addr', 'add', `${subnet}.2/30`, 'dev', 'out');
  await ip('-n', router, 'addr', 'add', `${subnet}.129/30`, 'dev', 'in');
  await ip('-n', inside, 'addr', 'add', `${subnet}.130/30`, 'dev', 'eth0');
  await ip('link', 'set', `cwt${id}`, 'up');
  await ip('-n', router, 'link', 'set', 'out', 'up');
  await ip('-n', router, 'link', 'set', 'in', 'up');
  await ip('-n', inside, 'link', 'set', 'eth0', 'up');
  await ip('-n', inside, 'route', 'add', 'default', 'via', `${subnet}.129`);
  await ip('-n', router, 'route', 'add', 'default', 'via', `${subnet}.1`);
  return addresses;
}

/** The first three numbers of a /24 that no interface or route here uses. */
async function freeSubnet(): Promise<string> {
  const taken = await runToEnd('ip', ['-4', 'route', 'show', 'table', 'all']);
  for (;;) {
    const [a = 0, b = 0] = randomBytes(2);
    const subnet = `10.${220 + (a % 30)}.${b}`;
    if (!taken.includes(`${subnet}.`)) return subnet;
  }
}

async function addRules(router: string): Promise<void> {
  const rules = [
    ['-N', 'INBOUND'],
    ['-A', 'INBOUND', '-j', 'DROP'],
    ['-N', 'FAULTS'],
    ['-A', 'FORWARD', '-j', 'FAULTS'],
    ['-A', 'FORWARD', '-i', 'out', '-m', 'conntrack', '--ctstate', 'NEW,INVALID', '-j', 'INBOUND'],
    ['-A', 'INPUT', '-i', 'out', '-m', 'conntrack', '--ctstate', 'NEW,INVALID', '-j', 'INBOUND'],
    ['-t', 'nat', '-A', 'POSTROUTING', '-o', 'out', '-j', 'MASQUERADE'],
  ];
  for (const rule of rules) await runToEnd('iptables', ['-w', ...rule], { netns: router });
}

function hostOf(inside: string, router: string, addresses: Addresses, stop: () => Promise<void>): NatHost {
  const addFault = async (direction: PacketDirection, fault: readonly string[]): Promise<void> => {
    for (const [name, device] of [
      ['out', 'in'],
      ['in', 'out'],
    ] as const) {
      if (direction !== 'both' && direction !== name) continue;
      await runToEnd('iptables', ['-w', '-A', 'FAULTS', '-i', device, ...fault, '-j', 'DROP'], { netns: router });
    }
  };
  return {
    netns: inside,
    ...addresses,
    stop,
    inboundAttempts: async () => {
      const counters = await runToEnd('iptables', ['-w', '-nvxL', 'INBOUND'], { netns: router });
      return Number(/^\s*(\d+).*DROP/m.exec(counters)?.[1]);
    },
    silence: (direction) => addFault(direction, []),
    lose: (direction, probability) =>
      addFault(direction, ['-m', 'statistic', '--mode', 'random', '--probability', String(probability)]),
    heal: async () => void (await runToEnd('iptables', ['-w', '-F', 'FAULTS'], { netns: router })),
    start: (command, args, options = {}) => start(command, args, { ...options, netns: inside }),
    [Symbol.asyncDispose]: stop,
  };
}

async function ip(...args: string[]): Promise<void> {
  await runToEnd('ip', args);
}
