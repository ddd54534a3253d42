"""``hustings force-new-cluster``: what is left when a majority of the voters is lost for ever."""

from __future__ import annotations

import argparse
import json

from . import _core


def run(arguments: argparse.Namespace) -> int:
    """Tells what the directory holds; with the cluster's id, makes its node the only voter."""
    given: str | None = arguments.cluster
    cluster, node, term, last, voters = _core.force_new_cluster(arguments.data_dir, given)
    if arguments.json:
        names = [{"name": name, "address": address} for name, address in voters]
        told = {"cluster": cluster, "node": node, "term": term, "last_entry": last}
        print(json.dumps({"forced": given is not None, **told, "voters": names}))
        return 0
    name, address = voters[0]
    if given is None:
        others = ", ".join(f"{name} ({address})" for name, address in voters[1:])
        print(
            f"{name} ({address}) is a voter of cluster {cluster}"
            + (f"; the others: {others}\n" if others else ", the only one\n")
            + f"its log ends with entry {last} of term {term}\n"
            "Nothing was changed. ONLY IF A MAJORITY OF THESE VOTERS IS LOST FOR EVER, and none of "
            "them runs:\ntake the directory whose log ends latest (term first, then entry), since "
            "what it lacks is gone, and\n"
            f"  hustings force-new-cluster {arguments.data_dir} --cluster {cluster}\n"
            "It becomes the only voter. All other nodes, workers too, then start with empty "
            "directories."
        )
        return 0
    print(
        f"{name} ({address}) IS NOW THE ONLY VOTER, of cluster {cluster}; cluster {given} is no "
        "more\nStart it as before. Remove the directories of all other nodes, and start those with "
        "--join."
    )
    return 0
