"""Problems and tasks: what is asked, and how outputs are judged."""
