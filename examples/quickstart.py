"""Five nodes, a thousand tasks, and the leader killed in the middle."""

import hustings as hs


@hs.task(retries=3, timeout=30)
def square(x: int) -> int:
    return x * x


if __name__ == "__main__":
    with hs.Cluster.local(5, isolated=True) as c:
        print(c.wait_leader())
        jobs = [square.submit(i) for i in range(1_000)]
        c.kill(c.leader)
        print(sum(f.result() for f in hs.as_completed(jobs, timeout=60)))
        print(c.wait_leader())
        print(c.events.failovers()[-1])
