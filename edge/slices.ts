/** Every feature that is mounted. A feature is deleted by its line here, its folder, its schema files and its tests. */
import { events } from './event-bus/routes.ts';
import type { Slice } from './http/slice.ts';
import { systemSlice } from './http/system-routes.ts';
import { administration } from './manager/accounts/admin-routes.ts';
import { accounts } from './manager/accounts/routes.ts';
import { agents } from './manager/agents/routes.ts';
import { archive } from './manager/archive/routes.ts';
import { auditTrail } from './manager/audit/routes.ts';
import { images } from './manager/images/routes.ts';
import { jupyter } from './manager/jupyter/routes.ts';
import { kernels } from './manager/kernels/routes.ts';
import { metrics } from './manager/metrics/routes.ts';
import { presets } from './manager/presets/routes.ts';
import { recovery } from './manager/recovery/routes.ts';
import { releases } from './manager/releases/routes.ts';
import { sessions } from './manager/sessions/routes.ts';
import { sessionStreams } from './manager/sessions/stream-routes.ts';
import { sshKeys } from './manager/ssh-keys/routes.ts';
import { terminals } from './manager/terminals/routes.ts';
import { machine } from './tunnel/drain.ts';

const features: readonly Slice[] = [
  accounts,
  administration,
  agents,
  archive,
  auditTrail,
  events,
  images,
  jupyter,
  kernels,
  metrics,
  presets,
  recovery,
  releases,
  sessions,
  sessionStreams,
  sshKeys,
  terminals,
  machine,
];
export const slices: readonly Slice[] = [systemSlice(features), ...features];
