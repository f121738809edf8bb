"""How the numbers of a report are meant; the closing section of the page."""

from __future__ import annotations

NOTES = """<h2>How to read the numbers</h2>
<p><b>Verdict.</b> Root-start learners and learners that need prefix control were granted the same
oracles and run on the same attempts. The gain is the pass probability of the best learner with
prefix control minus that of the best root-start learner; its interval holds with probability 95 %
whichever learners look best in the data (exact paired bounds, corrected for the number of
learners). <i>Root-start access is the limit</i>: the interval lies above zero and not below 10
points. <i>The base distribution is the limit</i>: every learner passes less than half of the attempts,
with prefix control too, and not for want of budget. <i>No difference</i>: the gain is at most 10 points.
<i>Undetermined</i>: anything else. Each of the first three claims is false with probability at most
2.5 %, at one horizon; the largest one speaks for the task. Where each problem has one right
output, best-of-N with the whole budget counts as one more root-start learner, by its exact law.</p>
<p><b>Oracles.</b> An outcome reward judges complete outputs; a process verifier says whether a prefix
can still become right; a demonstration is a right output; a value estimates what a prefix is worth; inner
states are next-token laws of the last layers and features of outputs. An oracle is not an interface: where the
winner uses the verifier, the verdict names what root-start with the same verifier reaches, and what
prefix control reaches without it. Learners that are shown a demonstration stand apart, since at
the root a demonstration is the answer. Greedy decoding stands apart, since a root-start rollout
at temperature 0 gives the same output.</p>
<p><b>J<sub>β</sub></b> = E[r] − β·KL(π‖P) is the KL-regularized reward of the law π of a learner's outputs under the
generator P. The table shows the mean of r − β·(−log P(output)), which leaves out the entropy of
π and is therefore a lower bound. An unfinished output counts as one that the generator completes, at
no KL, with reward 0. Attempts without any output are left out.</p>
<p><b>Intervals.</b> Pass rates: Clopper-Pearson. Means: bootstrap over problems, 2,000 resamples, widened for
few problems. All at 95 %, one at a time, except the gain in the verdicts. Attempts that ended with an
error count as not passed.</p>
<p><b>Costs</b> are logical: what the interface charges. Generated tokens count every draw, discarded ones too;
submitted tokens count the prompt and prefix once per query.</p>"""

LINES = """<p><b>Lines.</b> A data file has finitely many lines. Attempts on one line under several seeds, and on lines
with the same prompt (up to white space, case and punctuation), are a cluster, and each cluster counts once.
Pass rates are means over lines of the share that passed; their intervals are Gaffke's for C numbers in [0, 1], which
are Clopper-Pearson on C lines where the attempts on each line agree, and assume nothing of how they depend on
each other. Means: bootstrap over lines. Differences and verdicts count each of k attempts on a line as 1/k of a
win or a loss, in the same exact bounds for C lines. A number of attempts that would decide is a number of lines.</p>"""
