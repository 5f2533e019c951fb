/** Durable Objects by their names, typed by what they promise (`rpc.ts` beside each). A stub is cheap and opens nothing. */
import type { AccessRpc } from '../http/access-rpc.ts';
import type { ThrottleRpc } from '../http/throttle-rpc.ts';
import type { AdmissionRpc } from '../manager/admission/rpc.ts';
import type { LedgerRpc } from '../manager/scheduler/rpc.ts';
import type { ControlHubRpc, DataHubRpc } from '../tunnel/rpc.ts';

/** A stub that also takes a request: an upgrade handed on. */
type WithFetch<Rpc> = Rpc & { fetch(request: Request): Promise<Response> };

function stub(namespace: DurableObjectNamespace, name: string): unknown {
  return namespace.getByName(name);
}

/** The admission object of a domain (its number) or `system`. */
export function admissionObject(env: Env, name: string): AdmissionRpc {
  return stub(env.ADMISSION, name) as AdmissionRpc;
}
/** The ledger of a resource group. Only numbers of the catalogue: a guessed one would make an object. */
export function ledgerObject(env: Env, groupNumber: number): LedgerRpc {
  return stub(env.LEDGER, String(groupNumber)) as LedgerRpc;
}
export function controlHubObject(env: Env, name: string): WithFetch<ControlHubRpc> {
  return stub(env.CONTROL_HUB, name) as WithFetch<ControlHubRpc>;
}
export function dataHubObject(env: Env, name: string): WithFetch<DataHubRpc> {
  return stub(env.DATA_HUB, name) as WithFetch<DataHubRpc>;
}
/** One of the 16 `Access` objects. */
export function accessObject(env: Env, shard: number): AccessRpc {
  return stub(env.ACCESS, String(shard)) as AccessRpc;
}
/** One of the 16 `Throttle` objects. */
export function throttleObject(env: Env, shard: number): ThrottleRpc {
  return stub(env.THROTTLE, String(shard)) as ThrottleRpc;
}
