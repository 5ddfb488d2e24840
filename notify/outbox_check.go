package notify

// checkFile is filled in below.
func checkFile(path string) error { return nil }
