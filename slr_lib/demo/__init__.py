"""The procedural signer: a made-up person, drawn by this package, who signs made-up signs.

It gives the pipeline a corpus to run on where no data set is, and the truth to measure an extraction against. All of it
is synthetic: a figure from it says that the pipeline works, and nothing about a real data set.
"""

from slr_lib.demo.accuracy import truth_metrics
from slr_lib.demo.corpus import draw_corpus, plan_corpus
from slr_lib.demo.signers import Signer, make_signer
from slr_lib.demo.signs import NO_EVENT, Sign, demo_signs, minimal_pairs
from slr_lib.demo.truth import extraction_truth, synthetic_landmarks

__all__ = ["NO_EVENT", "Sign", "Signer", "demo_signs", "draw_corpus", "extraction_truth", "make_signer",
           "minimal_pairs", "plan_corpus", "synthetic_landmarks", "truth_metrics"]
