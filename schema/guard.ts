/** The rules of a host's packet filter that keep containers away from it: agents set them, uninstalling takes them away. */

/** Chain of our own in the table `filter`, entered from INPUT; its rules begin with the pool as their source. */
export const guardChain = 'CAUSEWAY-INPUT';
/** Where clouds keep the credentials of a machine: refused among forwarded packets, by a rule with the pool as its source. */
export const linkLocal = '169.254.0.0/16';
