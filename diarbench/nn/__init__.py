"""Networks of our own, which load published weights; torch is imported here and not outside."""
