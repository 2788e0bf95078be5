"""In every process of a sweep under test, the workers and kernels too, ``train`` means the fake training."""

import os

if os.environ.get("FAKE_TRIALS"):
    from tests.execution.fake_trials import use_fake_trials

    use_fake_trials(os.environ["FAKE_TRIALS"])
