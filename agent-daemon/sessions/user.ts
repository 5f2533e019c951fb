/** Which numbers a user of an image has, by the image's own passwd and group files. Pure. */

export interface UserIds {
  uid: number;
  gid: number;
}

/** Resolves `user[:group]` with at least one name in it; undefined when the image does not have it. */
export function resolveUser(text: string, passwd: string, group: string): UserIds | undefined {
  const [user = '', named] = text.split(':');
  const line = rows(passwd).find((fields) => fields[0] === user || fields[2] === user);
  const uid = /^\d+$/.test(user) ? Number(user) : toId(line?.[2]);
  const gid = named === undefined ? toId(line?.[3]) : resolveGroup(named, group);
  return uid === undefined || gid === undefined ? undefined : { uid, gid };
}

function resolveGroup(name: string, group: string): number | undefined {
  if (/^\d+$/.test(name)) return Number(name);
  return toId(rows(group).find((fields) => fields[0] === name)?.[2]);
}

function rows(text: string): string[][] {
  return text.split('\n').map((line) => line.split(':'));
}

function toId(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}
