"""Where sessions are made from the live weights of TRL's trainers: the assembly of training.

Everything else in ``reroot.training`` sees a session alone.
"""
