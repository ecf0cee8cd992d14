"""Identity resolution: finds the identities that are one person, and merges what is known of that person.

    context = ResolutionContext.compile(workspace_id, settings, schema)     compile it once for each digest and keep it
    postponed = resolve_changes(rows, context, changed, now)                incremental, in the transaction of a batch
    resolution = resolve(region)                                            one closed set of identities, pure

The definition: two identities are linked if they have the same name, or else if the first identifier that both have has
the same value. Links are taken in the order of rank, age of the younger identity, age of the older one. A link that
would break a separation or a maximum of values is refused. The sets of identities that the other links unite are the
profiles. No function compares identities in pairs: `components` explains how.

The modules of the rule are pure: `components`, `constraints`, `evidence`, `explaining`, `merging`, `naming`,
`resolving` and `settings` know neither the state store nor the time.
"""
