"""What a file will be worth on its runtime, by rules that are known before any training."""
