/** What the agent asks of this machine itself, for real: its facts, its routes, how much a directory holds. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { arch, availableParallelism, cpus, hostname, release, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gatherRsync } from './toolbox/gather.ts';

export interface Host {
  hostname: string;
  /** Of this process. */
  pid: number;
  /** As Node says it: `x64`, `arm64`. */
  arch: string;
  kernel: string;
  /** Of Node. */
  runtimeVersion: string;
  cpus: number;
  /** CPUs that this process may use. */
  parallelism: number;
  memoryBytes: number;
  /** Absolute path of causeway-init for containers of this machine. */
  initPath: string;
  /** Directory of the runners of kernels. */
  runnersPath: string;
  /** Copies rsync of this machine below a directory, and answers where; undefined when there is none (`toolbox/gather.ts`). */
  gatherRsync(root: string): Promise<string | undefined>;
  /** The routing table, as `/proc/net/route` has it. */
  readRoutes(): Promise<string>;
  /** What the hardware calls itself, and no copy of a disk takes along; undefined where it says nothing of use. */
  readHardwareId(): Promise<string | undefined>;
  /** Runs `iptables` with these arguments; resolves with what it said when it failed. */
  iptables(args: readonly string[]): Promise<string | undefined>;
  /** Bytes on the disk below a directory; undefined when that takes too long. */
  measureTree(path: string): Promise<number | undefined>;
}

/** A tree with millions of files is not counted to the end: it is not known then. */
const measureMs = 60_000;
const filterMs = 10_000;

export function thisHost(): Host {
  const initArch = arch() === 'arm64' ? 'aarch64' : 'x86_64';
  return {
    hostname: hostname(),
    pid: process.pid,
    arch: arch(),
    kernel: release(),
    runtimeVersion: `Node.js ${process.versions.node}`,
    cpus: cpus().length,
    parallelism: availableParallelism(),
    memoryBytes: totalmem(),
    initPath: fileURLToPath(new URL(`./init/bin/causeway-init-${initArch}`, import.meta.url).href),
    runnersPath: fileURLToPath(new URL('./kernels/runners/', import.meta.url).href),
    gatherRsync,
    readRoutes: () => readFile('/proc/net/route', 'utf8'),
    readHardwareId,
    iptables,
    measureTree,
  };
}

/** Of a PC or a virtual machine (SMBIOS, for root alone), and of a board with a device tree. */
const hardwareIdFiles = ['/sys/class/dmi/id/product_uuid', '/sys/firmware/devicetree/base/serial-number'];
/** What firmware says that nobody has given an id: one digit all over, or what AMI's sample has. */
const noId = /^([0-9a-f])\1*$|^03000200040005000006000700080009$/i;

/** `files`: read in this order, the first that says anything counts. */
export async function readHardwareId(files: readonly string[] = hardwareIdFiles): Promise<string | undefined> {
  for (const file of files) {
    const text = await readFile(file, 'latin1').catch(() => '');
    const id = text.replace(/[^\x21-\x7e]/g, '');
    if (id !== '' && !noId.test(id.replaceAll('-', ''))) return id;
  }
  return undefined;
}

async function iptables(args: readonly string[]): Promise<string | undefined> {
  try {
    await promisify(execFile)('iptables', args, { timeout: filterMs });
    return undefined;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    return (stderr ?? message).trim().split('\n')[0] || message;
  }
}

/** By `du` at the lowest priority, on the directory's filesystem alone; links are not followed. */
export async function measureTree(path: string): Promise<number | undefined> {
  try {
    const { stdout } = await promisify(execFile)('nice', ['-n', '19', 'du', '-sxB1', path], { timeout: measureMs });
    return Number.parseInt(stdout, 10);
  } catch (error) {
    // Files come and go under its eyes: then it says what it counted, and that it failed.
    const counted = Number.parseInt((error as { stdout?: string }).stdout ?? '', 10);
    return Number.isNaN(counted) ? undefined : counted;
  }
}
