"""Runs one command line of gtask after the other, each in a process of its own that need not import everything anew: it
is forked where `python -m gtask` would look at its arguments. Until then it has done the same, in the same order.

Reads a JSON object a line (arguments, cwd, env, out, err: the files for stdout and stderr), and answers each with the
exit code.
"""

import json
import os
import sys
import traceback

from gtask.patch import end_at_interrupt, patch

if __name__ == "__main__":
    del sys.path[0]
    end_at_interrupt()
    patch()
    from gevent.monkey import get_original

    from gtask.cli import run
    from gtask.leaving import leave

    for line in sys.stdin:
        call = json.loads(line)
        if child := get_original("os", "fork")():
            print(os.waitstatus_to_exitcode(get_original("os", "waitpid")(child, 0)[1]), flush=True)
            continue
        try:
            os.chdir(call["cwd"])
            os.environ.clear()
            os.environ.update(call["env"])
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(os.open(call["out"], os.O_WRONLY), 1)
            os.dup2(os.open(call["err"], os.O_WRONLY), 2)
            leave(run(call["arguments"]))
        except SystemExit as end:  # of --help and --version
            sys.stdout.flush()
            os._exit(int(end.code or 0))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)  # the child must not go on with this loop
