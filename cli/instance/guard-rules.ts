/** Takes away what an agent of this machine set in the packet filter: it leaves its rules, since containers outlive it. */
import { spawnSync } from 'node:child_process';
import { guardChain, linkLocal } from '../../schema/guard.ts';

/** Removes the rules for a pool of addresses (CIDR), and the chain with its last rule. Where there are none, nothing. */
export function removeGuardRules(pool: string): void {
  for (const line of rules()) {
    const isOurs = line.startsWith(`-A ${guardChain} -s ${pool} `) || line.includes(` -s ${pool} -d ${linkLocal} `);
    if (isOurs) iptables(['-D', ...line.split(' ').slice(1)]);
  }
  const left = rules();
  if (!left.includes(`-N ${guardChain}`) || left.some((line) => line.startsWith(`-A ${guardChain} `))) return;
  iptables(['-D', 'INPUT', '-j', guardChain]);
  iptables(['-X', guardChain]);
}

function rules(): string[] {
  return iptables(['-S']).split('\n');
}

function iptables(args: readonly string[]): string {
  return spawnSync('iptables', ['-w', ...args], { encoding: 'utf8' }).stdout ?? '';
}
