package control

// The API's Go code. buf is heavy and lives in a module of its own; the plugins
// are tools of this module, so that protoc-gen-go is of the same version as the
// runtime that its output is compiled against.
//go:generate sh -c "cd .. && go tool -modfile=tools/go.mod buf generate"
