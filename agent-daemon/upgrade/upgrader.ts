/**
 * How an agent becomes another version of itself. It judges the release (signature by the key pinned at enrolment, machine,
 * age), unpacks it beside the version that runs, writes down that it is on trial, switches, and ends with the status by
 * which its keeper starts `current`. The new version has to connect, report and hear an answer in time; else it gives
 * itself up for the one before. Whatever dies in between, exactly one version is started next. Containers are not touched.
 */
import { createPublicKey, verify } from 'node:crypto';
import { minutesUntilUpgrade, type UpgradePlan, type UpgradeState } from '../../schema/api/upgrade.ts';
import { Refusal } from '../../schema/errors.ts';
import type { AgentFailpoint } from '../../schema/failpoints.ts';
import type { Clock, Failpoints, Log, Random, Timers } from '../../schema/ports.ts';
import { manifestBytes, parseManifest, type Release } from '../../schema/release.ts';
import { timeLimit } from '../deadline.ts';
import type { Finding } from '../capacity/problems.ts';
import type { Handlers } from '../dispatch.ts';
import type { Loop, Loops } from '../loops.ts';
import type { Installation, Over } from './installation.ts';
import { type Download, unpack, UnpackError } from './unpack.ts';

export interface UpgraderOptions {
  /** Undefined for an agent of a checkout, which is not upgraded by itself. */
  installation: Installation | undefined;
  /** Of this process. */
  version: string;
  arch: string;
  /** Raw Ed25519 key, base64url, from the enrolment; undefined for those who joined before releases were signed. */
  releaseKey(): string | undefined;
  download: Download;
  /** What the control plane wants of this agent without an order. */
  plan(signal: AbortSignal): Promise<UpgradePlan>;
  random: Random;
  /** This version has connected, reported, and heard an answer after that. */
  isProven(): boolean;
  /** Ends this process in order, so that the keeper starts `current`. */
  restart(): void;
  clock: Clock;
  timers: Timers;
  log: Log;
  loops: Loops;
  failpoints: Failpoints<AgentFailpoint>;
  trialMs: number;
}

export interface UpgradeOrder {
  version: string;
  allowDowngrade: boolean;
}

/** No release takes longer to come than this. */
const downloadMs = 30 * 60_000;
const lookEveryMs = 500;
const hourMs = 3_600_000;
/** After its start an agent asks within this time, so that many that start together do not ask together. */
const firstAskMs = 60_000;
const askMs = 30_000;

export class Upgrader {
  readonly #options: UpgraderOptions;
  #state: Omit<UpgradeState, 'running'>;
  /** The version that was on trial here and was given up. */
  #gaveUp: string | undefined;
  #working: Promise<void> | undefined;
  readonly #stopping = new AbortController();
  #watch: Loop | undefined;
  #cancelAsk = (): void => {};

  constructor(options: UpgraderOptions) {
    this.#options = options;
    const none: Over = { phase: 'none', atMs: options.clock.nowMs() };
    const { tried, ...over } = options.installation?.over ?? none;
    this.#gaveUp = tried === true ? over.to : undefined;
    // Where another version runs than the one that could not become a newer one, a person has brought it since.
    this.#state = over.phase === 'failed' && over.from !== options.version ? none : over;
  }

  get state(): UpgradeState {
    return { running: this.#options.version, ...this.#state };
  }

  /** What is to be told of the last upgrade, when it was given up. */
  get findings(): Finding[] {
    const { phase, to, detail } = this.#state;
    if (phase !== 'failed') return [];
    return [{ code: 'upgrade_failed', detail: `The upgrade to ${to} was given up: ${detail}`, degrades: false }];
  }

  /** The answers to what the edge asks about upgrades. */
  get calls(): Pick<Handlers['calls'], 'upgrade' | 'upgradeState'> {
    return {
      upgrade: (order, deadline) => this.order(order, deadline),
      upgradeState: () => Promise.resolve(this.state),
    };
  }

  /** Takes up what the version before left: this one may be on trial, or the one that came back. */
  start(): void {
    const { installation, version } = this.#options;
    if (!installation) return;
    const { trial, givenUp } = installation;
    if (trial?.to === version) this.#beginTrial(installation, trial.from);
    else if (givenUp?.from === version) {
      this.#gaveUp = givenUp.to;
      this.#fail(givenUp, givenUp.reason);
    } else if (trial?.from === version && installation.current === version)
      this.#fail(trial, 'it was cut off before the switch');
    this.#askIn(firstAskMs * this.#options.random.fraction());
  }

  /** Asks again and again, about every hour, and at the beginning of its window. */
  #askIn(delayMs: number): void {
    this.#cancelAsk = this.#options.timers.after(delayMs, () => {
      this.#follow().then(
        (nextMs) => this.#stopping.signal.aborted || this.#askIn(nextMs),
        (error: unknown) => {
          this.#options.log.debug('the plan of upgrades was not learnt', { error: String(error) });
          if (!this.#stopping.signal.aborted) this.#askIn(hourMs);
        },
      );
    });
  }

  /** Does what the policy says now. Resolves with how long to wait for the next look. */
  async #follow(): Promise<number> {
    const { clock, random, log, version: running } = this.#options;
    const limit = timeLimit(this.#options.timers, askMs, this.#stopping.signal);
    try {
      const { policy, version } = await this.#options.plan(limit.signal);
      const minutes = minutesUntilUpgrade(policy, clock.nowMs());
      const hour = hourMs * (1 + random.fraction() / 4);
      if (minutes === undefined) return hour;
      if (minutes > 0) return Math.min(hour, minutes * 60_000 * (1 + random.fraction() / 60));
      // What this machine gave up once needs a person; what did not come as far as a trial is tried again.
      if (version === undefined || version === running || version === this.#gaveUp) return hour;
      log.info('upgrading by policy', { mode: policy.mode, version });
      await this.order({ version, allowDowngrade: false }, limit.signal);
      return hour;
    } finally {
      limit.cancel();
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the agent stops'));
    this.#cancelAsk();
    await this.#watch?.stop();
    await this.#working;
  }

  /** Judges the release and begins. Resolves when it is judged. @throws Refusal `agent_upgrade_refused` */
  async order({ version, allowDowngrade }: UpgradeOrder, deadline: AbortSignal): Promise<UpgradeState> {
    const { installation } = this.#options;
    if (!installation)
      throw refusal('This agent runs from a checkout: bring that to the version you want, and start the agent again.');
    const earlier = this.#underWay(version);
    if (earlier) return earlier;
    if (version === this.#options.version)
      return { running: version, phase: 'done', to: version, atMs: this.#options.clock.nowMs() };
    const { release, manifest } = await this.#judge(version, allowDowngrade, deadline);
    // Another order may have been judged meanwhile.
    const other = this.#underWay(version);
    if (other) return other;
    this.#become({ phase: 'downloading', from: this.#options.version, to: version });
    this.#working = this.#work(installation, release, manifest).finally(() => (this.#working = undefined));
    return this.state;
  }

  /** The upgrade to `version` that is under way already. @throws Refusal when it is one to another version */
  #underWay(version: string): UpgradeState | undefined {
    const { phase, to } = this.#state;
    if (!this.#working && phase !== 'restarting' && phase !== 'trial') return undefined;
    if (to === version) return this.state;
    throw refusal(`An upgrade to ${to} is under way.`);
  }

  async #judge(version: string, allowDowngrade: boolean, signal: AbortSignal) {
    const { arch, installation, version: running } = this.#options;
    const key = this.#options.releaseKey();
    if (key === undefined)
      throw refusal(
        'This agent joined before releases were signed and knows no key for them: run install.sh once more.',
      );
    const manifest = await this.#readManifest(signal);
    let parsed;
    try {
      parsed = parseManifest(manifest);
    } catch (error) {
      throw refusal((error as Error).message);
    }
    const { release, signed, signature } = parsed;
    if (!isSignedBy(key, signed, signature))
      throw refusal('The release is not signed by the key that this agent got when it joined. Nothing was changed.');
    if (release.arch !== arch) throw refusal(`The release is for ${release.arch}, this machine is ${arch}.`);
    if (release.version !== version)
      throw refusal(
        `The release is ${release.version}, not ${version}: it changed meanwhile. Order the upgrade again.`,
      );
    const own = installation?.releaseOf(running);
    if (!allowDowngrade && own && release.issuedAtMs < own.issuedAtMs)
      throw refusal(
        `${version} was signed before ${running}, which runs. To go back, order it with --allow-downgrade.`,
      );
    return { release, manifest };
  }

  async #readManifest(signal: AbortSignal): Promise<string> {
    const pieces: Uint8Array[] = [];
    let total = 0;
    for await (const piece of await this.#options.download(
      `/agent/v1/release/${this.#options.arch}/manifest`,
      signal,
    )) {
      total += piece.byteLength;
      if (total > manifestBytes) throw refusal('The manifest is too long to be one.');
      pieces.push(piece);
    }
    return Buffer.concat(pieces).toString('utf8');
  }

  /** Never rejects. */
  async #work(installation: Installation, release: Release, manifest: string): Promise<void> {
    const { version: from, log, failpoints, timers } = this.#options;
    const trial = { from, to: release.version };
    const limit = new AbortController();
    const cancel = timers.after(downloadMs, () => limit.abort(new UnpackError('the download took too long')));
    try {
      await failpoints.before('upgrade.unpack');
      const signal = AbortSignal.any([limit.signal, this.#stopping.signal]);
      const running = installation.releaseOf(from);
      const progress = (doneBytes: number, totalBytes: number) => {
        const phase = doneBytes < totalBytes ? 'downloading' : 'unpacking';
        this.#state = { ...this.#state, phase, doneBytes, totalBytes };
      };
      const { download } = this.#options;
      await unpack({ installation, release, manifest, running, download, progress }, signal);
      await failpoints.after('upgrade.unpack');
      await failpoints.before('upgrade.trial');
      installation.beginTrial(trial);
      await failpoints.after('upgrade.trial');
      await failpoints.before('upgrade.switch');
      installation.point(release.version);
      await failpoints.after('upgrade.switch');
      log.info('upgrading', trial);
      this.#become({ phase: 'restarting', ...trial });
      this.#options.restart();
    } catch (error) {
      // A stop is no failure: the order is given again, or not.
      if (this.#stopping.signal.aborted) return;
      installation.endTrial();
      this.#fail(trial, error instanceof UnpackError ? error.message : String(error));
    } finally {
      cancel();
    }
  }

  #beginTrial(installation: Installation, from: string): void {
    const { clock, version: to, loops, trialMs } = this.#options;
    this.#become({ phase: 'trial', from, to });
    const untilMs = clock.bootMs() + trialMs;
    this.#watch = loops.every('trial of a new version', lookEveryMs, async () => {
      if (this.#state.phase !== 'trial') return;
      if (this.#options.isProven()) await this.#pass(installation, from, to);
      else if (clock.bootMs() >= untilMs) this.#giveUp(installation, from, to);
    });
  }

  async #pass(installation: Installation, from: string, to: string): Promise<void> {
    const { failpoints, log } = this.#options;
    await failpoints.before('upgrade.proven');
    installation.endTrial();
    await failpoints.after('upgrade.proven');
    this.#become({ phase: 'done', from, to });
    installation.keepOver(this.#state);
    installation.sweep(to, from);
    log.info('upgraded', { from, to });
  }

  #giveUp(installation: Installation, from: string, to: string): void {
    const reason = `it had not connected and reported after ${Math.round(this.#options.trialMs / 1000)} s`;
    this.#options.log.error('this version is given up for the one before', { from, to, reason });
    installation.giveUp({ from, to, reason });
    this.#become({ phase: 'restarting', from, to });
    this.#options.restart();
  }

  #fail({ from, to }: { from: string; to: string }, reason: string): void {
    const detail = reason.slice(0, 400);
    this.#options.log.error('an upgrade failed', { from, to, reason: detail });
    this.#become({ phase: 'failed', from, to, detail });
    const { installation } = this.#options;
    try {
      installation?.keepOver({ ...this.#state, tried: this.#gaveUp === to });
      installation?.endTrial();
      installation?.sweep(this.#options.version);
    } catch (error) {
      // On a full disk it is told as long as this process lives.
      this.#options.log.warn('how the upgrade ended could not be written down', { error: String(error) });
    }
  }

  #become(state: Omit<UpgradeState, 'running' | 'atMs'>): void {
    this.#state = { ...state, atMs: this.#options.clock.nowMs() };
  }
}

function refusal(detail: string): Refusal {
  return new Refusal('agent_upgrade_refused', detail);
}

/** True when `signature` (base64url) of `text` was made with the Ed25519 key (raw, base64url). */
function isSignedBy(publicKey: string, text: string, signature: string): boolean {
  try {
    const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: publicKey }, format: 'jwk' });
    return verify(null, Buffer.from(text), key, Buffer.from(signature, 'base64url'));
  } catch {
    return false;
  }
}
