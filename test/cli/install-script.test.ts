/**
 * The installer refuses in words, under the shells that machines have: dash, and busybox with nothing but its own tools.
 * Its release is a small one, from a server of the test.
 */
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { manifestText, type Release, signedManifest } from '../../schema/release.ts';
import { start } from '../support/process.ts';
import { byTier } from '../support/tier.ts';
import { type TmpDir, tmpDir } from '../support/tmp.ts';

const script = join(import.meta.dirname, '../../edge/manager/releases/install.sh');
const sha256 = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex');
const arch = process.arch === 'arm64' ? 'arm64' : 'x64';

/** Files of a release that installs, and runs nothing. */
const contents: Record<string, string> = {
  node: '#!/bin/sh\nexit 0\n',
  start: '#!/bin/sh\nexit 3\n',
  'causeway-agent': '#!/bin/sh\nexit 1\n',
};

const { privateKey, publicKey } = generateKeyPairSync('ed25519');

function makeRelease(version: string, signer = privateKey): Map<string, Buffer> {
  const served = new Map<string, Buffer>();
  const files = Object.entries(contents).map(([path, content], at) => {
    const part = gzipSync(`${content}# ${version}\n`);
    served.set(`/agent/v1/release/${arch}/parts/${sha256(part)}`, part);
    const whole = `${content}# ${version}\n`;
    return { path, mode: 0o755, bytes: whole.length, sha256: sha256(whole), first: at, last: at };
  });
  const parts = Array.from(served.values(), (part) => ({ sha256: sha256(part), bytes: part.byteLength }));
  const release: Release = { version, arch, issuedAtMs: 1, parts, files };
  const text = manifestText(release);
  const signature = sign(null, Buffer.from(text), signer).toString('base64url');
  served.set(`/agent/v1/release/${arch}/manifest`, Buffer.from(signedManifest(text, signature)));
  return served;
}

describe.each([
  ['dash', ['dash']],
  ['busybox', ['busybox', 'ash']],
])('the installer under %s', (shell, argv) => {
  let dir: TmpDir;
  let bin: string;
  let server: Server;
  let engine: Server;
  let served: Map<string, Buffer>;
  let url: string;

  beforeEach(async () => {
    dir = tmpDir('inst');
    bin = join(dir.path, 'bin');
    mkdirSync(bin);
    served = makeRelease('1.0.0+a');
    server = createServer((request, response) => {
      const body = served.get(request.url ?? '');
      if (body === undefined) {
        response.writeHead(404, { 'content-type': 'application/problem+json' });
        response.end('{"code":"release_not_found","detail":"There is no release for this machine."}');
      } else response.end(body);
    });
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    engine = createServer((_, response) => void response.end('OK'));
    await new Promise<void>((resolve) => void engine.listen(join(dir.path, 'docker.sock'), resolve));
  });
  afterEach(() => {
    server.close();
    engine.close();
    dir.remove();
  });

  /** A tool that answers `text`, or fails. */
  const fake = (name: string, body: string) => writeFileSync(join(bin, name), `#!/bin/sh\n${body}\n`, { mode: 0o755 });

  /** Every tool of the machine but these. busybox is all that there is under busybox. */
  function tools(without: readonly string[] = []): void {
    const wanted =
      'sh gzip sha256sum flock grep sed df mktemp uname id head tr cat mkdir chmod mv rm ln readlink cp dirname basename base64 printf sleep ' +
      'ls env true ' +
      (shell === 'busybox' ? 'wget' : 'curl');
    for (const name of wanted.split(' ')) {
      if (without.includes(name) || existsSync(join(bin, name))) continue;
      if (shell === 'busybox' && name !== 'flock') symlinkSync('/usr/bin/busybox', join(bin, name));
      else symlinkSync(`/usr/bin/${name}`, join(bin, name));
    }
  }

  const install = (...args: string[]) => installBy(script, ...args);

  /** The script as a control plane gives it out, which knows the key of its releases. */
  async function installSigned(): Promise<{ code: number | null; output: string }> {
    const text = readFileSync(script, 'utf8').replace('@release-key@', publicKey.export({ format: 'jwk' }).x!);
    const file = join(dir.path, 'install.sh');
    writeFileSync(file, text);
    return installBy(file, 'cwj_0123456789');
  }

  function installBy(file: string, ...args: string[]): Promise<{ code: number | null; output: string }> {
    return installWith({}, file, '--docker-host', `unix://${dir.path}/docker.sock`, ...args);
  }

  /** Under this environment alone, and told of no engine. */
  async function installWith(
    env: Record<string, string>,
    file: string,
    ...args: string[]
  ): Promise<{ code: number | null; output: string }> {
    const [command, ...before] = argv as [string, ...string[]];
    const where = ['--url', url, '--dir', join(dir.path, 'opt')];
    const variables = Object.entries({ PATH: bin, HOME: dir.path, ...env }).map(([name, value]) => `${name}=${value}`);
    const clean = ['-i', ...variables, `/usr/bin/${command}`, ...before];
    const program = start('/usr/bin/env', [...clean, file, ...where, '--no-start', ...args]);
    const { code } = await program.exited;
    return { code, output: program.output() };
  }

  async function expectRefusal(args: string[], why: RegExp): Promise<void> {
    const refused = await install(...args);
    expect(refused.output).toMatch(why);
    expect(refused.code).not.toBe(0);
    expect(existsSync(join(dir.path, 'opt/current'))).toBe(false);
  }

  it('installs, does nothing again, and takes the next version in place of the first', async () => {
    tools();
    const first = await install('cwj_0123456789');
    expect(first.output).toMatch(/release +1\.0\.0\+a, 0 MB to download\ninstalled /);
    expect(first.code).toBe(0);
    const opt = join(dir.path, 'opt');
    expect(readlinkSync(join(opt, 'current'))).toBe('versions/1.0.0+a');
    expect(readFileSync(join(opt, 'join-token'), 'utf8')).toBe('cwj_0123456789\n');
    expect((await install()).output).toContain('1.0.0+a is here already');
    served = makeRelease('1.0.1+b');
    symlinkSync('versions/1.0.0+a', join(opt, 'current.new')); // of a run that was cut
    expect((await install()).code).toBe(0);
    expect(readlinkSync(join(opt, 'current'))).toBe('versions/1.0.1+b');
    expect(readdirSync(opt).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  it('keeps the way by which it came, and in a later run what that is not told', async () => {
    tools();
    const proxy = { HTTPS_PROXY: 'http://me:secret@10.0.0.1:3128', SSL_CERT_FILE: '/etc/ours.pem' };
    const socket = `unix://${dir.path}/docker.sock`;
    const env = () => readFileSync(join(dir.path, 'opt/agent.env'), 'utf8');
    const first = await installWith(proxy, script, '--docker-host', socket, '--name', 'x', 'cwj_0123456789');
    expect(first.code, first.output).toBe(0);
    const told = [
      `CAUSEWAY_URL='${url}'`,
      `DOCKER_HOST='${socket}'`,
      `CAUSEWAY_AGENT_NAME='x'`,
      `HTTPS_PROXY='http://me:secret@10.0.0.1:3128'`,
      `SSL_CERT_FILE='/etc/ours.pem'`,
      '',
    ];
    expect(env()).toBe(told.join('\n'));
    expect(statSync(join(dir.path, 'opt/agent.env')).mode & 0o777).toBe(0o600);
    const again = await installWith({}, script);
    expect(again.code, again.output).toBe(0);
    expect(env()).toBe(told.join('\n'));
    expect((await installWith({ HTTPS_PROXY: 'http://10.0.0.2:3128' }, script, '--name', 'y')).code).toBe(0);
    expect(env()).toMatch(/NAME='y'\nHTTPS_PROXY='http:\/\/10\.0\.0\.2:3128'\nSSL_CERT_FILE=/);
    const refused = await installWith({ HTTPS_PROXY: "http://x';reboot;'" }, script);
    expect(refused).toMatchObject({ code: 1, output: expect.stringContaining("HTTPS_PROXY has a '") as string });
  });

  // busybox prefers its own tools to all others.
  it.skipIf(shell === 'busybox').each<[string, () => void, string[], RegExp]>([
    [
      'a processor that it has nothing for',
      () => fake('uname', 'case $1 in -m) echo riscv64;; -r) echo 6.1.0;; *) echo Linux;; esac'),
      [],
      /no agent for riscv64/,
    ],
    [
      'an old kernel, with the reason',
      () => fake('uname', 'case $1 in -m) echo x86_64;; -r) echo 4.4.0-31-generic;; *) echo Linux;; esac'),
      [],
      /Linux 4\.4\.0-31-generic is too old: Node 24.*needs 4\.18/,
    ],
    ['another system', () => fake('uname', 'echo Darwin'), [], /runs on Linux, this is Darwin/],
    [
      'a full disk',
      () => fake('df', 'echo Filesystem; echo "/dev/x 100 99 1024 99% /"'),
      [],
      /has 1 MB free, and the agent needs 32 MB/,
    ],
  ])('refuses %s', async (_, prepare, args, why) => {
    prepare();
    tools();
    await expectRefusal(args, why);
  });

  it.each<[string, string[], RegExp]>([
    [
      'a machine without an engine',
      ['--docker-host', 'unix:///nowhere.sock'],
      /no container engine at \/nowhere\.sock\n.*apt-get install docker\.io/,
    ],
    ['an engine elsewhere', ['--docker-host', 'tcp://10.0.0.1:2375'], /only a unix socket/],
    ['no token at first', [], /has not joined yet.*\n.*agent token create/],
    ['an option that is none', ['--frobnicate'], /--frobnicate is not an option/],
    ['an address that is none', ['--url', 'https://x/; rm -rf /'], /is not the address of a control plane/],
    ['a pin that is none', ['--pin', 'sha256:123'], /--pin takes sha256:/],
  ])('refuses %s', async (_, args, why) => {
    tools();
    await expectRefusal(args, why);
  });

  it.skipIf(shell === 'busybox').each(['gzip', 'sha256sum', 'flock'])(
    'refuses a machine without %s, and says how to get it',
    async (tool) => {
      tools([tool]);
      const refused = await install('cwj_0123456789');
      expect(refused.output).toMatch(new RegExp(`${tool} is missing\n.*apt-get install`));
      expect(refused.code).toBe(1);
    },
  );

  it.skipIf(shell === 'busybox')('refuses a machine that can not download', async () => {
    tools(['curl', 'wget']);
    expect(await install('cwj_0123456789')).toMatchObject({
      code: 1,
      output: expect.stringContaining('neither curl nor wget') as string,
    });
  });

  it('refuses a part with another content, and keeps nothing of it', async () => {
    tools();
    const [path] = [...served.keys()].filter((each) => each.includes('/parts/'));
    served.set(path!, gzipSync('#!/bin/sh\nrm -rf /\n'));
    const refused = await install('cwj_0123456789');
    expect(refused.output).toMatch(/part 0 of node arrived with a wrong checksum, and nothing of it was kept/);
    expect(refused.code).toBe(1);
    expect(readdirSync(join(dir.path, 'opt/versions'))).toEqual([]);
  });

  it('checks the signature of the first release where OpenSSL is at hand, and says where it could not', async () => {
    tools();
    const without = await installSigned();
    expect(without.output).toMatch(/signature +not checked, for want of OpenSSL 3/);
    expect(without.code).toBe(0);
    rmSync(join(dir.path, 'opt'), { recursive: true });
    fake('openssl', 'echo "OpenSSL 1.1.1w  11 Sep 2023"');
    expect((await installSigned()).output).toMatch(/signature +not checked, for want of OpenSSL 3/);
    rmSync(join(dir.path, 'opt'), { recursive: true });
    rmSync(join(bin, 'openssl'));
    symlinkSync('/usr/bin/openssl', join(bin, 'openssl'));
    const good = await installSigned();
    expect(good.output).toMatch(/signature +good, by the key of the control plane/);
    expect(good.code).toBe(0);
  });

  const manifest = `/agent/v1/release/${arch}/manifest`;
  const unsigned: [string, (honest: string) => string][] = [
    [
      'another key signed',
      () => makeRelease('1.0.0+a', generateKeyPairSync('ed25519').privateKey).get(manifest)!.toString(),
    ],
    ['was changed in one line', (honest) => honest.replace('issued 1', 'issued 2')],
    ['nobody signed', (honest) => honest.replace(/signature .*\n$/, '')],
    ['has a line behind its signature', (honest) => `${honest}file 755 1 ${'0'.repeat(64)} 0-0 extra\n`],
    ['has an empty signature', (honest) => honest.replace(/signature .*\n$/, 'signature \n')],
  ];
  it.each(unsigned.slice(0, byTier({ daily: 1, full: unsigned.length })))(
    'refuses a first release that %s',
    async (_, change) => {
      tools();
      symlinkSync('/usr/bin/openssl', join(bin, 'openssl'));
      served.set(manifest, Buffer.from(change(served.get(manifest)!.toString())));
      const refused = await installSigned();
      expect(refused.output).toMatch(
        /the release is not signed by the key of the control plane at .*: nothing was installed/,
      );
      expect(refused.code).toBe(1);
      expect(existsSync(join(dir.path, 'opt/current'))).toBe(false);
    },
  );

  it('says what the control plane says when it has no release', async () => {
    tools();
    served.clear();
    const refused = await install('cwj_0123456789');
    expect(refused.output).toMatch(
      shell === 'busybox' ? /could not be downloaded/ : /answered 404.*There is no release for this machine/,
    );
    expect(refused.code).toBe(1);
  });

  it('refuses to be run twice at once', async () => {
    tools();
    mkdirSync(join(dir.path, 'opt'));
    writeFileSync(join(dir.path, 'opt/install.lock'), '');
    await using holder = start('flock', [join(dir.path, 'opt/install.lock'), 'sleep', '60']);
    for (;;) {
      const refused = await install('cwj_0123456789');
      if (refused.code === 0) {
        rmSync(join(dir.path, 'opt/current'));
        continue; // the lock was not taken yet
      }
      expect(refused.output).toContain('is under way');
      break;
    }
    await holder.kill9();
  });
});

it('does nothing before its last line, so that half of it does nothing', async () => {
  const lines = readFileSync(script, 'utf8').trimEnd().split('\n');
  expect(lines.at(-1)).toBe('main "$@"');
  const half = start('dash', ['-c', lines.slice(0, -1).join('\n')]);
  expect(await half.exited).toMatchObject({ code: 0 });
  expect(half.output()).toBe('');
});
