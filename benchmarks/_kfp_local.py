"""The peer of the step benchmark: the same chain under kfp.local. Arguments: length, 1 for its default venv."""

import sys

from kfp import dsl, local


@dsl.component(base_image="python:3.11")
def tick(times: list) -> list:
    import json
    import time

    times = [*times, time.time()]
    print("TIMES " + json.dumps(times))
    return times


def main() -> None:
    length, use_venv = int(sys.argv[1]), sys.argv[2] == "1"

    @dsl.pipeline(name="chain")
    def steps():
        last = tick(times=[])
        for _ in range(length - 1):
            last = tick(times=last.output)

    local.init(runner=local.SubprocessRunner(use_venv=use_venv))
    steps()


if __name__ == "__main__":
    main()
