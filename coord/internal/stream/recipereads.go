package stream

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/api"
	"github.com/coord-dev/coord/coord/internal/mirror"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// prepareRecipeRead is prepareRead for what recipes are asked.
func (st *stream) prepareRecipeRead(r *request, out *read) *coordv1.Refusal {
	switch reads := st.server.opts.Reads; r.Kind {
	case coordv1.Kind_KIND_CHECK_TOKEN:
		body := &coordv1.CheckTokenRequest{}
		out.answer = asked(body, reads.CheckToken)
		return checked(r, body, nil)
	case coordv1.Kind_KIND_DESCRIBE:
		body := &coordv1.DescribeRequest{}
		out.answer = asked(body, reads.Describe)
		return checked(r, body, nil)
	case coordv1.Kind_KIND_LEADER:
		body := &coordv1.LeaderRequest{}
		out.answer = asked(body, reads.Leader)
		return checked(r, body, nil)
	}
	return invalid("a request of kind %d is not one without a session", r.Kind)
}

// asked answers a read by what the services of recipes answer.
func asked[Q any, R proto.Message](
	body Q, answer func(context.Context, mirror.View, Q) (R, error),
) func(context.Context, api.View) (proto.Message, error) {
	return func(ctx context.Context, view api.View) (proto.Message, error) {
		return message(answer(ctx, view, body))
	}
}
