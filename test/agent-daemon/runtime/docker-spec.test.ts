import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { Refusal } from '../../../schema/errors.ts';
import { KernelSpec } from '../../../schema/protocol/intents.ts';
import {
  agentLabels,
  containerName,
  containerOptions,
  containerUser,
  ownerOf,
  type Placement,
  sessionLabels,
  warmName,
} from '../../../agent-daemon/runtime/docker-spec.ts';
import { agentId, imageFacts, kernelSpec, sessionId } from '../support.ts';

function placement(changes: Partial<Placement> = {}): Placement {
  const spec = kernelSpec();
  return {
    name: containerName(sessionId, spec.kernel, 3),
    labels: {
      ...agentLabels({ instanceId: 'instance-1', agentId }),
      ...sessionLabels({ sessionId, generation: 3, spec }),
    },
    spec,
    image: imageFacts(),
    network: 'causeway-1',
    initPath: '/opt/causeway/init',
    toolsPath: '/var/lib/causeway/toolbox',
    runPath: '/var/lib/causeway/run/1',
    homePath: '/var/lib/causeway/homes/1',
    ...changes,
  };
}

it('asks Docker for exactly this', () => {
  expect(containerOptions(placement())).toMatchInlineSnapshot(`
    {
      "AttachStderr": false,
      "AttachStdin": false,
      "AttachStdout": false,
      "Cmd": [],
      "Entrypoint": [
        "/causeway/init",
        "/causeway/run/agent.sock",
        "--memory",
        "67108864",
      ],
      "Env": [
        "PATH",
      ],
      "Healthcheck": {
        "Test": [
          "NONE",
        ],
      },
      "HostConfig": {
        "AutoRemove": false,
        "CapDrop": [
          "ALL",
        ],
        "CgroupnsMode": "private",
        "Init": false,
        "IpcMode": "private",
        "LogConfig": {
          "Config": {},
          "Type": "none",
        },
        "Memory": 67108864,
        "MemorySwap": 67108864,
        "Mounts": [
          {
            "BindOptions": {
              "Propagation": "rprivate",
            },
            "ReadOnly": true,
            "Source": "/opt/causeway/init",
            "Target": "/causeway/init",
            "Type": "bind",
          },
          {
            "BindOptions": {
              "Propagation": "rprivate",
            },
            "ReadOnly": true,
            "Source": "/var/lib/causeway/toolbox",
            "Target": "/causeway/tools",
            "Type": "bind",
          },
          {
            "BindOptions": {
              "Propagation": "rprivate",
            },
            "ReadOnly": true,
            "Source": "/var/lib/causeway/run/1",
            "Target": "/causeway/run",
            "Type": "bind",
          },
          {
            "BindOptions": {
              "Propagation": "rprivate",
            },
            "ReadOnly": false,
            "Source": "/var/lib/causeway/homes/1",
            "Target": "/home/work",
            "Type": "bind",
          },
        ],
        "NanoCpus": 500000000,
        "NetworkMode": "causeway-1",
        "PidsLimit": 4096,
        "Privileged": false,
        "RestartPolicy": {
          "Name": "no",
        },
        "SecurityOpt": [
          "no-new-privileges=true",
        ],
        "ShmSize": 33554432,
        "Tmpfs": {
          "/tmp": "rw,exec,nosuid,nodev,mode=1777,size=33554432",
        },
        "Ulimits": [
          {
            "Hard": 0,
            "Name": "core",
            "Soft": 0,
          },
        ],
      },
      "Hostname": "main1",
      "Image": "sha256:0000000000000000000000000000000000000000000000000000000000000000",
      "Labels": {
        "causeway.agent": "agt_01mcc5rm000000000000000000_1",
        "causeway.generation": "3",
        "causeway.instance": "instance-1",
        "causeway.kernel": "main1",
        "causeway.project": "prj_01mcc5rm000000000000000000",
        "causeway.session": "ses_01mcc5rm000000000000000000_1_1",
      },
      "NetworkingConfig": {
        "EndpointsConfig": {
          "causeway-1": {},
        },
      },
      "OpenStdin": false,
      "Tty": false,
      "User": "1000:1000",
      "WorkingDir": "/home/work",
      "name": "ses_01mcc5rm000000000000000000_1_1-main1-g3",
    }
  `);
});

it('gives no privilege, device, namespace, capability or host path to any specification or image', () => {
  fc.assert(
    fc.property(anySpec, anyImage, fc.nat(), (spec, image, generation) => {
      const options = optionsOrRefusal(
        placement({ spec, image, name: containerName(sessionId, spec.kernel, generation) }),
      );
      if (options instanceof Refusal) return;
      const usual = containerOptions(placement());
      // The same keys as always, and the same values but for those that a request may choose.
      expect(Object.keys(options).toSorted()).toEqual(Object.keys(usual).toSorted());
      const { Memory, MemorySwap, NanoCpus, ShmSize, Tmpfs, ...fixed } = options.HostConfig ?? {};
      const { Memory: _m, MemorySwap: _s, NanoCpus: _n, ShmSize: _h, Tmpfs: _t, ...expected } = usual.HostConfig ?? {};
      expect(fixed).toEqual(expected);
      expect(Object.keys(Tmpfs ?? {})).toEqual(['/tmp']);
      expect(Memory).toBeGreaterThan(0);
      expect(MemorySwap).toBe(Memory);
      expect(NanoCpus).toBeGreaterThan(0);
      expect(ShmSize).toBeLessThan(Memory ?? 0);
      expect([options.Cmd, options.WorkingDir]).toEqual([usual.Cmd, usual.WorkingDir]);
      expect(options.Entrypoint?.slice(0, 3)).toEqual(usual.Entrypoint?.slice(0, 3));
      expect(options.Entrypoint?.slice(3)).toEqual([String(Memory)]);
    }),
  );
});

it('never runs as root, and leaves no variable of the image or the request in the container itself', () => {
  fc.assert(
    fc.property(anySpec, anyImage, (spec, image) => {
      const options = optionsOrRefusal(placement({ spec, image }));
      if (options instanceof Refusal) return;
      expect(options.User).toMatch(/^[a-z0-9_]/i);
      expect(options.User).not.toMatch(/^(root|0+)(:|$)/);
      for (const name of options.Env ?? []) expect(name).not.toContain('=');
      const said = JSON.stringify([options.Labels, options.Env]);
      for (const value of Object.values(spec.env)) if (value.length > 20) expect(said).not.toContain(value);
    }),
  );
});

it.each([
  ['', '1000:1000'],
  ['root', '1000:1000'],
  ['0', '1000:1000'],
  ['0:0', '1000:1000'],
  ['000', '1000:1000'],
  ['root:wheel', '1000:1000'],
  [':5', '1000:1000'],
  ['work', 'work'],
  ['work:users', 'work:users'],
  ['1001', '1001'],
  ['1001:0', '1001:0'],
])('runs an image of user "%s" as %s', (image, user) => {
  expect(containerUser(image)).toBe(user);
});

it.each(['/proc/self/fd/8', '/proc', '//proc/1', '/x/fd/7', '/dev/fd'])('refuses an image that works in %s', (path) => {
  const refused = optionsOrRefusal(placement({ image: imageFacts({ workingDir: path }) }));
  expect(refused).toMatchObject({ code: 'session_image_invalid' });
});

it.each([{ mem: 1024 }, { cpu: 0 }])('refuses amounts with which nothing starts: %o', (slots) => {
  expect(optionsOrRefusal(placement({ spec: kernelSpec({ slots }) }))).toMatchObject({ code: 'session_start_failed' });
});

const text = fc.string({ maxLength: 60 });
const anySpec = fc
  .record({
    image: text,
    command: fc.option(fc.array(text, { maxLength: 3 }), { nil: undefined }),
    env: fc.dictionary(fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,20}$/), fc.string({ minLength: 0, maxLength: 60 })),
    stdin: fc.boolean(),
    tty: fc.boolean(),
    slots: fc.dictionary(fc.constantFrom('cpu', 'mem', 'cuda.device', '__proto__'), fc.nat(2 ** 40)),
  })
  .map((changes) => {
    const { command, ...rest } = changes;
    const spec = kernelSpec({ ...rest, ...(command === undefined ? {} : { command }) });
    return KernelSpec.parse(spec);
  });
const anyImage = fc
  .record({
    env: fc.array(fc.oneof(text, fc.constantFrom('LD_PRELOAD=/x.so', 'NVIDIA_VISIBLE_DEVICES=all', 'A=b=c', ''))),
    user: fc.oneof(text, fc.constantFrom('root', '0', 'work', '1001:5', '0:0')),
    entrypoint: fc.array(text),
    cmd: fc.array(text),
    workingDir: fc.oneof(text, fc.constantFrom('/proc/self/fd/9', '/srv', '')),
    labels: fc.dictionary(text, text),
  })
  .map((changes) => imageFacts(changes));

function optionsOrRefusal(of: Placement) {
  try {
    return containerOptions(of);
  } catch (error) {
    if (error instanceof Refusal) return error;
    throw error;
  }
}

it('knows whose a container is by its name', () => {
  for (const generation of [1, 42])
    expect(ownerOf({ name: containerName(sessionId, 'main1', generation) })).toEqual({ sessionId, generation });
  for (const name of ['', warmName('wrm_01mcc5rm000000000000000000'), `${sessionId}-main1`, `x${sessionId}-main1-g1`])
    expect(ownerOf({ name })).toBeUndefined();
});
