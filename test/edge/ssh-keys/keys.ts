/** Public keys that `ssh-keygen` made (those in hardware: put together as OpenSSH does), with the fingerprints that it shows. */
export const keys: readonly { line: string; fingerprint: string }[] = [
  {
    line: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFFrhzzj+wLINmpMmdsSsjZWKD/9UltLxhZGfr6HqHuU',
    fingerprint: 'SHA256:NXWWze1Xbb3/jNiGXBj5EdED1TSIq+dZEDPI7GdKzrU',
  },
  {
    line: 'ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA+BWHPmJZO35MXSL56GTYX+gVN3yIx+AGXp57ekI6f+nbi/QGDC5XpOnyIcj3H+gynURSRfqigaubu4wggRyxE=',
    fingerprint: 'SHA256:3wXgv6Ii3JWZU68D3ObgznZgghbXuDPlTD4SY76aVMQ',
  },
  {
    line: 'ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBEuWkSDBHdJzR+hQdbYtrn4QFTpoioODR8nWf5kc7y9OEl9GoSQhYv6JR86yrJ2QDcPcBf9ccMgQbNwzXchDaYqCsMyps6slstd3LWYCmvCAEgTVOssAeqJcx/zwYWYNGA==',
    fingerprint: 'SHA256:BKvF9bMHqdHJRpky4a66Sh10xJWF+/81EejDJBCVgAw',
  },
  {
    line: 'ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAD3XyfU1onWefHJpwR3i5/7hSg/lm11xMxvfjuHeRuAnu/6e+R8omVtNXtcRfKJDIEc76hXQxyFfjcrJj6Fdric2gFBvaVz37LzCKV6IxsC3OnmXrfkq8EBw0+E6/siauJGUt/RjJfmF+YgxQF203cRrQAh1yF8LsJlIWYxNuIv00Fq3A==',
    fingerprint: 'SHA256:bxM2gpKWvOcwj3HLteORbvPTTvUG3X1AR8WML3e/cng',
  },
  {
    line: 'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDMIoJcDX43v1nQ1RCdx+BKq20hoPyK2M6SnOZPylOyIgmD/UatISGLK76LMmF+tcE6dmv1wYJehWSZvZQ4E0k7lsVlXwG7Bb2/s1Wn9PsF4l4uJE5zLTsg7xMVBed0aDhwWhYy7suXWwMI3u5Z5sG1Z+N0W/UfKTXTDGKyuOHl4hHsrLf8b60ud3Y2LMA2MMd3R7s3/5REkNoR4SsWLgabQ3CJtHFba+XnOMxwxxQOfT2RgT1t135wVtXKquuQn4FPyyVH2wSxX+86kJv/7+RQpaINn6ahlK668sihVGbEMkZEboxlKITnL4tCY/t0t5glGT3oeDu5yH4bigFGxyENkfdt3hcL5MPQfl0AfQx5t+OK0MKlImtbomaLEc0wDkZoeyzGS0/w6KymiyfPBeZlhpSulpRsk8kV4H+tJ625xdx0iHYjhqqFrEFnatxLys6AKCXe6E9BtNLPtrXlbgmZQBSBGD7amBiYjiNiFAvwGEwikvN3kd6DrH0mATep3p0=',
    fingerprint: 'SHA256:Xstxwy1ECGkZbFUT9wlsXlGfJvXCZKtAlQHtFrn7r/4',
  },
  {
    line: 'sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIFFrhzzj+wLINmpMmdsSsjZWKD/9UltLxhZGfr6HqHuUAAAABHNzaDo=',
    fingerprint: 'SHA256:oXrgQHe84jo7DAeG8rQhcCUAZvcO7FHgvFbqyJesNlE',
  },
  {
    line: 'sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHAyNTYAAABBBA+BWHPmJZO35MXSL56GTYX+gVN3yIx+AGXp57ekI6f+nbi/QGDC5XpOnyIcj3H+gynURSRfqigaubu4wggRyxEAAAAEc3NoOg==',
    fingerprint: 'SHA256:M09jQTvZ5yM+3MglPHmV32EON8/linJW7oZAkwRvjjM',
  },
];

/** Too short. */
export const rsa2048 =
  'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCsWy9Xen8kyChlO78MjW/qF/Ior7uCy3s0fBpGA4XIU1NF3Duqb16kQC5H374BadY7Y29kETmfvmQjVyVtRZTIoNdIVMog3JowRAgnAA88M/nxX+4pM0B2ak9BZG3gb5JSLyHGimgOfR2BQdlmTL7hu0eKmmf9XWVxd0s7kE+Eygb5AN3Bmn0PeIcsOujqSNK9YI3vG0hke7c5xR14VTHumkoTh+it2X2E5uisFP4P//kZEQQ6xuuGHSCZ9itRg/NlK4BeVZktL+PA3EfTmxyCEQ7J4c7/2wdXjoSq8EUs2VMmN3upvNmxgiFUMEbNUak27nIx6jXe3HaPa73Erdz5';
