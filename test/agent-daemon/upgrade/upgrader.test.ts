/** An agent that follows its policy: what it tries again by itself, and what it tells of upgrades that failed. */
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Loops } from '../../../agent-daemon/loops.ts';
import { Installation, type Over } from '../../../agent-daemon/upgrade/installation.ts';
import type { Download } from '../../../agent-daemon/upgrade/unpack.ts';
import { Upgrader, type UpgraderOptions } from '../../../agent-daemon/upgrade/upgrader.ts';
import { manifestText, signedManifest } from '../../../schema/release.ts';
import { type TmpDir, tmpDir } from '../../support/tmp.ts';
import { VirtualTime } from '../../support/virtual-time.ts';
import { until } from '../../support/wait.ts';
import { keptLog, noFailpoints } from '../ports.ts';

const quarterMs = 900_000;
const sha256 = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex');
const { privateKey, publicKey } = generateKeyPairSync('ed25519');

/** The release that the control plane has: version 2. */
const content = 'the agent';
const part = gzipSync(content);
const text = manifestText({
  version: '2',
  arch: 'x64',
  issuedAtMs: 1,
  parts: [{ sha256: sha256(part), bytes: part.byteLength }],
  files: [{ path: 'agent.cjs', mode: 0o644, bytes: content.length, sha256: sha256(content), first: 0, last: 0 }],
});
const manifest = Buffer.from(signedManifest(text, sign(null, Buffer.from(text), privateKey).toString('base64url')));

describe('an agent that upgrades itself', () => {
  let dir: TmpDir;
  let time: VirtualTime;
  let upgrader: Upgrader | undefined;
  beforeEach(() => {
    dir = tmpDir('upg');
    time = new VirtualTime();
    mkdirSync(join(dir.path, 'versions/1'), { recursive: true });
    symlinkSync('versions/1', join(dir.path, 'current'));
  });
  afterEach(async () => {
    await upgrader?.stop();
    dir.remove();
  });

  /** Version 1, with policy `auto`; `parts` gives what the release is made of. */
  function upgrading(parts: () => Buffer, more: Partial<UpgraderOptions> = {}) {
    const asked: string[] = [];
    let restarts = 0;
    const download: Download = (path) => {
      asked.push(path.split('/').at(-2) ?? '');
      const bytes = path.endsWith('/manifest') ? manifest : parts();
      return Promise.resolve(
        (async function* () {
          yield bytes;
        })(),
      );
    };
    const log = keptLog();
    upgrader = new Upgrader({
      installation: new Installation(dir.path),
      version: '1',
      arch: 'x64',
      releaseKey: () => publicKey.export({ format: 'jwk' }).x,
      download,
      plan: () => Promise.resolve({ policy: { mode: 'auto' }, version: '2' }),
      random: { bytes: (count) => new Uint8Array(count), fraction: () => 0.5 },
      isProven: () => false,
      restart: () => void restarts++,
      clock: time,
      timers: time,
      log,
      loops: new Loops({ clock: time, timers: time, log }),
      failpoints: noFailpoints,
      trialMs: 120_000,
      ...more,
    });
    return {
      upgrader,
      /** How often the parts of the release were asked for. */
      tries: () => asked.filter((kind) => kind === 'parts').length,
      restarts: () => restarts,
    };
  }

  const over = (change: Partial<Over>) =>
    writeFileSync(
      join(dir.path, 'upgrade.json'),
      JSON.stringify({ phase: 'failed', from: '1', to: '2', detail: 'no', atMs: 1, ...change }),
    );

  it('tries a version again that it could not get, an hour later', async () => {
    let isCut = true;
    const {
      upgrader: agent,
      tries,
      restarts,
    } = upgrading(() => {
      if (isCut) throw new Error('the connection was cut');
      return part;
    });
    agent.start();
    await time.pass(quarterMs);
    await until(() => agent.state.phase === 'failed', { what: 'the first try to fail' });
    expect([agent.findings[0]?.code, tries()]).toEqual(['upgrade_failed', 1]);
    isCut = false;
    await time.pass(5 * quarterMs);
    await until(() => restarts() === 1, { what: 'the second try to come to its end' });
    expect(readFileSync(join(dir.path, 'current/agent.cjs'), 'utf8')).toBe(content);
    expect(agent.findings).toEqual([]);
  });

  it('does not try a version again that it gave up, over a start of its own', async () => {
    writeFileSync(join(dir.path, 'rolled-back'), 'from=1\nto=2\nreason=it hung\n');
    upgrading(() => part).upgrader.start();
    await upgrader?.stop();
    const { upgrader: agent, tries } = upgrading(() => part);
    agent.start();
    await time.pass(20 * quarterMs);
    expect(tries()).toBe(0);
    expect(agent.state).toEqual({
      running: '1',
      phase: 'failed',
      from: '1',
      to: '2',
      detail: 'it hung',
      atMs: expect.any(Number) as number,
    });
  });

  it('begins once for two orders that come together', async () => {
    const { upgrader: agent, tries, restarts } = upgrading(() => part);
    const order = () => agent.order({ version: '2', allowDowngrade: false }, new AbortController().signal);
    const answers = await Promise.all([order(), order()]);
    expect(answers.map(({ phase, to }) => [phase, to])).toEqual([
      ['downloading', '2'],
      ['downloading', '2'],
    ]);
    await until(() => restarts() === 1, { what: 'the upgrade to come to its end' });
    expect(tries()).toBe(1);
  });

  it('says no more that an upgrade failed where another version was installed since', () => {
    over({});
    expect(upgrading(() => part).upgrader.findings).toHaveLength(1);
    expect(upgrading(() => part, { version: '2' }).upgrader.findings).toEqual([]);
    expect(upgrading(() => part, { version: '3' }).upgrader.findings).toEqual([]);
  });
});
