"""Faults on purpose: the whole system with real processes, broken from outside, and counted.

    python -m chaos goals              every goal, one after the other, and a table
    python -m chaos goals 1 3 --count 5
    python -m chaos storm --seed 7     every kind of fault in random order, and one table

What there is:

    verdict   pure: lost, duplicates, contradictions, order, gaps, latencies
    reader    `read_committed` consumers that know nothing of the combiner
    load      producers that remember what was acknowledged
    plan      what the system under test consists of, and its configuration
    models    its models
    stage     the system under test: brokers, Redis, every process of `ensemble up`
    proxy     a TCP proxy that breaks what goes through it
    wrapper   runs a process of the product with something wrong inside
    goals/    what is to be reached, one module per kind of fault
    faults    every kind of fault, done and undone
    storm     all of them in random order

A goal is a function in a module of `chaos.goals`; the module is found by itself:

    @goal("5", "broker killed and restarted", "0 lost, 0 duplicates, gap ≤ 9 s", count=5)
    def broker_kills(count: int) -> Result:
        with Stage(Plan(kafka_proxy=True)) as stage:   # brokers, Redis, processes: all running
            stage.await_ready()
            with stage.load(2000):                     # events per second
                stage.await_flow()                     # outcomes come
                for _ in range(count):
                    broker = stage.kafka.brokers[0]
                    broker.kill(); broker.launch(); broker.await_ready()
                    stage.await_flow(within_ms=200)
            report = stage.report()                    # waits for what is on its way; judges
        return Result.of(report, report.clean and report.timing.gap_s <= 9, gap_s=…)

`stage.proxies[0].set(Toxics(…))` breaks the way to the broker, `stage.redis_proxy` that to Redis,
`stage.kill(name)`, `terminate`, `freeze`, `thaw` and `restart` treat one process, `Plan.tables`
changes the configuration, `Plan.models` names other models.
"""
